"""Published start-up ledgers of vLLM, read from tests/golden/start_up_ledgers.yaml."""

from functools import cache
from pathlib import Path

import yaml

from sizing.device import Device, find_gpu
from sizing.documents import Part
from sizing.engine_settings import EngineConfiguration
from sizing.model_facts import load_model_facts
from sizing.units import GIB

LEDGERS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "start_up_ledgers.yaml"


class Observed(Part):
    """What the engine logged, per rank."""

    weights_gib: float | None = None
    activation_gib: float | None = None
    non_torch_gib: float | None = None
    cuda_graph_gib: float | None = None
    cuda_graph_estimated_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: int | None = None
    max_concurrency: float | None = None


class Ledger(Part):
    """One start of an engine."""

    id: str
    source: str
    model: str
    gpu: str
    vllm_version: str
    gpu_memory_utilization: float
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    tensor_parallel_size: int = 1
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    language_model_only: bool = False
    limit_mm_per_prompt: dict[str, int] | None = None
    memory_usable_gib: float | None = None
    refused: bool = False
    assumed: str = ""
    observed: Observed

    def configuration(self) -> EngineConfiguration:
        """What was started. Raises UnknownFact for what the catalogue does not hold."""
        return EngineConfiguration(
            model=load_model_facts(self.model),
            device=self._device(),
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_model_len=self.max_model_len,
            kv_cache_dtype=self.kv_cache_dtype,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
            enforce_eager=self.enforce_eager,
            language_model_only=self.language_model_only,
            limit_mm_per_prompt=self.limit_mm_per_prompt,
            vllm_version=self.vllm_version,
        )

    def _device(self) -> Device:
        if self.memory_usable_gib is None:
            return Device.of_gpu(find_gpu(self.gpu).as_gpu())
        usable_bytes = int(self.memory_usable_gib * GIB)
        return Device(
            accelerator="cuda",
            name=self.gpu,
            compute_capability=(12, 1),
            memory_total_bytes=usable_bytes,
            memory_usable_bytes=usable_bytes,
            memory_unified=True,
        )


class ProfileRun(Part):
    """The profile run of a model outside the catalogue."""

    id: str
    source: str
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    layers: int
    shards: int
    activation_gib: float
    graph_gib: float


class LedgerFile(Part):
    """tests/golden/start_up_ledgers.yaml."""

    ledgers: tuple[Ledger, ...]
    refusals: tuple[Ledger, ...]
    profile_runs: tuple[ProfileRun, ...]
    excluded: dict[str, str]


@cache
def ledger_file() -> LedgerFile:
    """The ledgers."""
    return LedgerFile.model_validate(yaml.safe_load(LEDGERS.read_text(encoding="utf-8")))
