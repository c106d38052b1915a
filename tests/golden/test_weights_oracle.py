"""Weight bytes per rank against the parameter sum of vLLM's own classes, for the whole catalogue at TP 1, 2, 4, 8."""

import pytest

from sizing.device import Device, find_gpu
from sizing.errors import UnknownFact
from sizing.estimate import EngineConfiguration, estimate
from sizing.model_facts import known_models, load_model_facts
from sizing.units import GIB
from tests.golden.oracle_tables import AMPLE_BYTES, recorded_weights
from tools.kv_oracle_models import WEIGHT_DEVICE, WEIGHT_SIZES

ROWS = recorded_weights()
TOLERANCE_RATIO = 0.005
CASES = [
    pytest.param(models[0], size, answer, id=f"{models[0]} tp{size}")
    for models, by_size in ROWS
    for size, answer in by_size.items()
]
NOT_BUILT_BY_THE_ORACLE = {
    "Qwen/Qwen3.8-Flash-Next": "its n-gram table needs pinned memory",
    "Qwen/Qwen3.8-Flash-Next-FP8": "its n-gram table needs pinned memory",
}


def ample_device() -> Device:
    """A card without end, of the kind that the oracle pretended."""
    return Device(
        accelerator="cuda",
        name=WEIGHT_DEVICE,
        compute_capability=find_gpu(WEIGHT_DEVICE).compute_capability,
        memory_total_bytes=AMPLE_BYTES,
        memory_usable_bytes=AMPLE_BYTES,
    )


def test_every_model_of_the_catalogue_has_a_row() -> None:
    assert set(known_models()) == {model for models, _ in ROWS for model in models}
    assert all(set(WEIGHT_SIZES) == set(by_size) for _, by_size in ROWS)


@pytest.mark.parametrize(("model", "size", "answer"), CASES)
def test_weight_bytes_are_those_of_vllm_or_both_refuse(model: str, size: int, answer: int | str) -> None:
    try:
        facts = load_model_facts(model)
    except UnknownFact:
        pytest.skip("sizing says that it does not know this model")
    configuration = EngineConfiguration(
        model=facts, device=ample_device(), tensor_parallel_size=size, kv_cache_memory_bytes=100 * GIB, max_num_seqs=16
    )

    result = estimate(configuration)

    if isinstance(answer, str):
        assert "refused" == result.verdict, answer
    else:
        assert answer == pytest.approx(result.per_gpu.weights_bytes, rel=TOLERANCE_RATIO)


def test_weight_bytes_are_exact_for_all_models_that_the_oracle_builds() -> None:
    unequal = [
        (model, size)
        for models, by_size in ROWS
        for model in models[:1]
        if model not in UNKNOWN_TO_SIZING
        for size, answer in by_size.items()
        if isinstance(answer, int) and answer != _weights(model, size)
    ]

    assert [] == unequal


UNKNOWN_TO_SIZING = {*NOT_BUILT_BY_THE_ORACLE, "nvidia/Gemma-4-31B-IT-NVFP4"}


def _weights(model: str, size: int) -> int:
    configuration = EngineConfiguration(
        model=load_model_facts(model),
        device=ample_device(),
        tensor_parallel_size=size,
        kv_cache_memory_bytes=100 * GIB,
        max_num_seqs=16,
    )
    return estimate(configuration).per_gpu.weights_bytes
