"""Calibration: a site's own starts and loads of vLLM, in a small document: later answers begin from what was seen.

`llm-size calibrate` writes it, `estimate` and `recommend` read it with --calibration. It holds figures and options,
never text of a log.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part


class CalibratedStart(Part):
    """One start: what was run, what it logged, and what sizing had said. Bytes are of one rank.

    `overhead_bytes` is the requested memory less the logged KV cache less the weights as sizing computes them, so an
    error in the weights corrects itself.
    """

    log: str = Field(description="name of the log file")
    vllm_version: str
    gpu: str = Field(description="NVML name")
    model: str
    tensor_parallel_size: int = Field(ge=1)
    gpu_memory_utilization: float = Field(gt=0, le=1)
    max_model_len: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1)
    max_num_seqs: int = Field(ge=1)
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    compile_cache_was_warm: bool | None = None
    weights_bytes: int | None = Field(default=None, description="as logged")
    kv_cache_bytes: int = Field(description="as logged; negative where vLLM refused for want of memory")
    overhead_bytes: int
    predicted_overhead_bytes: int = Field(gt=0)
    predicted_kv_cache_bytes: int

    @property
    def ratio(self) -> float:
        """Overhead seen, to overhead that sizing says without calibration."""
        return self.overhead_bytes / self.predicted_overhead_bytes


class SpeedPoint(Part):
    """One load: what was sent, what was seen, and what sizing had said without calibration."""

    concurrency: int | None = Field(default=None, ge=1, description="requests in flight at most; None: no bound")
    requests_per_second: float | None = Field(default=None, gt=0, description="None: as fast as they are answered")
    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    request_count: int = Field(ge=1)
    output_tokens_per_second: float | None = Field(default=None, gt=0)
    seconds_per_token: float | None = Field(default=None, gt=0, description="mean TPOT, or the middle ITL")
    predicted_output_tokens_per_second: float | None = None
    predicted_seconds_per_token: float | None = None


class SpeedFactors(Part):
    """Seen time to stated time, by what the time goes to: whole steps, each request in them, reading, arithmetic."""

    fixed_ratio: float = Field(gt=0)
    request_ratio: float = Field(gt=0)
    reading_ratio: float = Field(gt=0)
    multiplying_ratio: float = Field(gt=0)


class CalibratedSpeed(Part):
    """The loads of one engine, and the factors that explain them together. `spread_ratio`: what they leave unexplained,
    and `unlearned_ratio`: what they could not tell apart, both as standard deviations of the logarithm."""

    reports: tuple[str, ...]
    vllm_version: str
    gpu: str = Field(description="NVML name, or the processor's")
    model: str
    tensor_parallel_size: int = Field(ge=1)
    points: tuple[SpeedPoint, ...] = Field(min_length=1)
    factors: SpeedFactors
    spread_ratio: float = Field(ge=0)
    unlearned_ratio: float = Field(default=0.0, ge=0)


class Calibration(Document):
    """What a site's engines have taught."""

    schema_version: Literal[1] = 1
    made_at: str
    starts: tuple[CalibratedStart, ...] = ()
    speeds: tuple[CalibratedSpeed, ...] = ()

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if not self.starts and not self.speeds:
            raise ValueError("holds neither a start nor a speed")
        return self

    def starts_like(self, *, gpu: str, vllm_version: str) -> tuple[CalibratedStart, ...]:
        """The starts of this version on this GPU; others say nothing about it."""
        return tuple(one for one in self.starts if (one.gpu, one.vllm_version) == (gpu, vllm_version))

    def speeds_like(self, *, gpu: str, vllm_version: str) -> tuple[CalibratedSpeed, ...]:
        """The measured loads of this version on this GPU or processor."""
        return tuple(one for one in self.speeds if (one.gpu, one.vllm_version) == (gpu, vllm_version))
