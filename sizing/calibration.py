"""Calibration: a site's own starts of vLLM, in a small document, so that later answers begin from what was seen there.

`llm-size calibrate` writes it, `estimate` and `recommend` read it with --calibration. It holds figures and options,
never text of a log.
"""

from typing import Literal

from pydantic import Field

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


class Calibration(Document):
    """What a site's engines have taught."""

    schema_version: Literal[1] = 1
    made_at: str
    starts: tuple[CalibratedStart, ...] = Field(min_length=1)

    def starts_like(self, *, gpu: str, vllm_version: str) -> tuple[CalibratedStart, ...]:
        """The starts of this version on this GPU; others say nothing about it."""
        return tuple(one for one in self.starts if (one.gpu, one.vllm_version) == (gpu, vllm_version))
