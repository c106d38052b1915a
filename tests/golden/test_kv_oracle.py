"""Sizing against vLLM's own planning, recorded by tools/record_kv_oracle.py: equal to the token, refusals included."""

import re

import pytest

from sizing.engine_defaults import DEFAULT_VLLM_VERSION, is_judged
from sizing.engine_settings import settings_of
from sizing.estimate import Estimate, estimate
from tests.golden.oracle_tables import (
    FOLDER,
    JUDGED_VERSIONS,
    RecordedAnswer,
    configuration_of,
    recorded_answers,
    table,
)
from tools.kv_oracle_cases import oracle_cases
from tools.kv_oracle_models import TINY_CONFIGS
from tools.record_kv_oracle import source_cases

ROWS = tuple(row for version in JUDGED_VERSIONS for row in recorded_answers(version))
PLANNED = [row for row in ROWS if not row.is_refusal]
REFUSED = [row for row in ROWS if row.is_refusal]
FIGURES = re.compile(r"\((\d+)\), \((\S+) GiB.*\((\S+) GiB\).*length is (\d+)")


def refusals_beside_memory(answer: Estimate) -> list[str]:
    """The oracle is given KV bytes; that no card holds weights and KV together is not its question."""
    return [one.message for one in answer.refusals if one.rule != "memory"]


@pytest.mark.parametrize("version", JUDGED_VERSIONS)
def test_the_table_of_a_version_holds_every_case_of_today(version: str) -> None:
    cases = oracle_cases() if version == DEFAULT_VLLM_VERSION else source_cases()

    assert set(cases) == {row.case for row in recorded_answers(version)}, "run tools/record_kv_oracle.py again"
    assert version == table(version)["vllm_version"]
    assert TINY_CONFIGS == table(version)["tiny_configs"]


def test_only_versions_with_a_table_are_called_exact() -> None:
    tables = {path.stem.removeprefix("kv_oracle-") for path in FOLDER.glob("kv_oracle-*.json")}

    assert set(JUDGED_VERSIONS) == tables
    assert all(is_judged(version) for version in tables)
    assert not is_judged("0.32.1")
    assert not is_judged("0.31.0")


@pytest.mark.parametrize("row", PLANNED, ids=lambda row: row.name)
def test_blocks_tokens_concurrency_and_weights_equal_those_of_vllm(row: RecordedAnswer) -> None:
    answer = estimate(configuration_of(row))

    assert {
        "block_size": row.answer["block_size"],
        "block_count": row.answer["block_count"],
        "max_model_len": row.answer["max_model_len"],
        "tokens": row.answer["tokens"],
        "max_concurrency": row.answer["max_concurrency"],
        "weight_bytes": row.answer["weight_bytes"],
        "refusals": [],
    } == {
        "block_size": answer.block_size_tokens,
        "block_count": answer.kv_cache_gpu_blocks,
        "max_model_len": answer.at_tokens,
        "tokens": answer.kv_cache_tokens,
        "max_concurrency": answer.max_concurrency,
        "weight_bytes": answer.per_gpu.weights_bytes,
        "refusals": refusals_beside_memory(answer),
    }


@pytest.mark.parametrize("row", PLANNED, ids=lambda row: row.name)
def test_defaults_equal_those_that_vllm_fills_in(row: RecordedAnswer) -> None:
    settings = settings_of(configuration_of(row))

    assert (
        row.answer["max_num_seqs"],
        row.answer["max_num_batched_tokens"],
        row.answer["max_in_flight_tokens"],
    ) == (settings.max_num_seqs, settings.max_num_batched_tokens, settings.geometry.in_flight_tokens)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_what_vllm_refuses_is_refused_with_its_figures(row: RecordedAnswer) -> None:
    refusal = str(row.answer["refusal"])

    answer = estimate(configuration_of(row))

    assert answer.verdict in ("refused", "does_not_fit")
    messages = refusals_beside_memory(answer)
    assert messages, refusal
    if "exceeds available Mamba cache blocks" in refusal:
        assert refusal.split("blocks (")[1].split(")", maxsplit=1)[0] in messages[0]
    else:
        assert 0 == answer.kv_cache_tokens
    theirs = FIGURES.search(refusal)
    if theirs is not None:
        ours = FIGURES.search(messages[0])
        assert ours is not None
        assert theirs.groups() == ours.groups()


def test_at_least_250_configurations_of_the_default_version_are_compared() -> None:
    rows = recorded_answers(DEFAULT_VLLM_VERSION)

    assert 250 <= len(rows)
    assert 40 <= sum(row.is_refusal for row in rows)


def test_the_tables_stay_small() -> None:
    assert 1_000_000 > sum(path.stat().st_size for path in FOLDER.glob("*oracle*.json"))
