"""Answer: the document that `estimate` returns, the JSON of `llm-size estimate`."""

from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sizing.documents import Part
from sizing.overhead import Provenance

Verdict = Literal["fits", "does_not_fit", "refused"]


class PerGpu(Part):
    """Where the memory of the tightest rank goes; the parts add up to `requested_bytes` while KV is above 0."""

    total_bytes: int
    usable_bytes: int
    requested_bytes: int
    weights_bytes: int
    activation_bytes: int
    non_torch_bytes: int
    cuda_graph_bytes: int
    kv_cache_bytes: int


class Limits(Part):
    """How far this configuration could be stretched: the longest window that fits, the most sequences accepted."""

    max_model_len_tokens: int
    max_num_seqs: int


class Refusal(Part):
    """A rule of vLLM that this configuration breaks."""

    rule: str
    message: str
    source: str


class Interval(Part):
    """Where the truth was seen to lie: low and high."""

    kv_cache_bytes: tuple[int, int]
    kv_cache_tokens: tuple[int, int]


class Estimate(Part):
    """The answer."""

    verdict: Verdict
    vllm_version: str
    gpu: str
    per_gpu: PerGpu
    kv_cache_tokens: int
    max_concurrency: float
    at_tokens: int
    kv_cache_gpu_blocks: int
    block_size_tokens: int
    limits: Limits
    refusals: tuple[Refusal, ...]
    interval: Interval
    provenance: dict[str, Provenance]
    calibration: str | None = Field(
        default=None, description="the site's own starts that this answer rests on; there only where some do"
    )

    @model_serializer(mode="wrap")
    def _without_absent_calibration(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = handler(self)
        if self.calibration is None:
            del content["calibration"]
        return content
