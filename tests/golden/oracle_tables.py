"""Oracle tables: the recorded answers of vLLM's own code, and the configurations that they answer."""

import json
from dataclasses import dataclass
from pathlib import Path

from sizing.device import Device, find_gpu
from sizing.estimate import EngineConfiguration
from sizing.model_facts import load_model_facts, model_facts_of
from sizing.units import GIB
from tools.kv_oracle_cases import OracleCase
from tools.kv_oracle_models import CPU, TINY_CONFIGS

FOLDER = Path(__file__).resolve().parent
JUDGED_VERSIONS = ("0.32.0", "0.33.0")
AMPLE_BYTES = 1 << 50
"""The oracle knows no end of a card's memory beside the KV bytes it is given."""


@dataclass(frozen=True, kw_only=True)
class RecordedAnswer:
    """One case, and what vLLM said."""

    version: str
    case: OracleCase
    memory_bytes: int | None
    answer: dict[str, object]

    @property
    def is_refusal(self) -> bool:
        return "refusal" in self.answer

    @property
    def name(self) -> str:
        """The case in a line."""
        case = self.case
        given = [case.model, case.device, f"tp{case.tensor_parallel_size}", f"kv{case.kv_bytes}"]
        given += [f"{key}={value}" for key, value in vars(case).items() if key in OPTIONAL and value not in NOT_GIVEN]
        return " ".join([self.version, *given])


OPTIONAL = (
    "max_model_len",
    "kv_cache_dtype",
    "max_num_batched_tokens",
    "max_num_seqs",
    "block_size",
    "async_scheduling",
    "language_model_only",
)
NOT_GIVEN: tuple[object, ...] = (None, "auto")


def table(version: str) -> dict[str, object]:
    """One golden file as it is."""
    content: dict[str, object] = json.loads((FOLDER / f"kv_oracle-{version}.json").read_text(encoding="utf-8"))
    return content


def recorded_answers(version: str) -> tuple[RecordedAnswer, ...]:
    """Every row of one golden file."""
    rows = table(version)["rows"]
    assert isinstance(rows, list)
    return tuple(
        RecordedAnswer(
            version=version, case=OracleCase(**row["case"]), memory_bytes=row["memory_bytes"], answer=row["answer"]
        )
        for row in rows
    )


def recorded_weights() -> tuple[tuple[tuple[str, ...], dict[int, int | str]], ...]:
    """(models with this config.json, bytes or refusal by tensor-parallel size)."""
    content = json.loads((FOLDER / "weights_oracle.json").read_text(encoding="utf-8"))
    return tuple(
        (tuple(row["models"]), {int(size): answer for size, answer in row["bytes"].items()}) for row in content["rows"]
    )


def configuration_of(row: RecordedAnswer) -> EngineConfiguration:
    """The same configuration for sizing."""
    case = row.case
    if case.model in TINY_CONFIGS:
        model = model_facts_of(TINY_CONFIGS[case.model], name=case.model, source=case.model)
    else:
        model = load_model_facts(case.model)
    memory = row.memory_bytes or 1024 * GIB
    device = Device(
        accelerator="cpu" if case.device == CPU else "cuda",
        name=case.device,
        compute_capability=None if case.device == CPU else find_gpu(case.device).compute_capability,
        memory_total_bytes=memory,
        memory_usable_bytes=memory,
    )
    return EngineConfiguration(
        model=model,
        device=device,
        tensor_parallel_size=case.tensor_parallel_size,
        max_model_len="auto" if case.max_model_len == -1 else case.max_model_len,
        kv_cache_dtype=case.kv_cache_dtype,
        max_num_batched_tokens=case.max_num_batched_tokens,
        max_num_seqs=case.max_num_seqs,
        block_size=case.block_size,
        kv_cache_memory_bytes=case.kv_bytes,
        language_model_only=case.language_model_only,
        async_scheduling=case.async_scheduling,
        vllm_version=row.version,
    )
