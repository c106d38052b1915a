"""Recommend: what an operator should run on one host, why, and what would meet a wish that cannot be met."""

from pathlib import Path

import pytest

from sizing.device import find_gpu
from sizing.hardware import Cpu, Gpu, Hardware
from sizing.islands import Pool, pool_of_catalogue, pools_of
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.recommend import Recommended, recommend
from sizing.wish import Wish

GIB = 1024**3
H100 = "NVIDIA H100 80GB HBM3"


def gpus(name: str, count: int, *, first: int = 0) -> tuple[Gpu, ...]:
    row = find_gpu(name)
    return tuple(
        row.as_gpu(index).model_copy(update={"uuid": f"GPU-{name}-{index}"}) for index in range(first, first + count)
    )


def host(*devices: Gpu) -> Hardware:
    return Hardware(
        host="g1",
        accelerator="cuda",
        cpu=Cpu(model="EPYC", architecture="x86_64", cores=(0, 1)),
        memory_total_bytes=512 * GIB,
        gpus=devices,
    )


def pool(name: str, count: int) -> tuple[Pool, ...]:
    return (pool_of_catalogue(find_gpu(name).as_gpu(), count),)


def asked(model: str | tuple[str, ...], pools: tuple[Pool, ...], **wish: object) -> Recommended:
    names = (model,) if isinstance(model, str) else model
    facts: list[ModelFacts] = [load_model_facts(name) for name in names]
    content = {"context_tokens": 32768, "users_count": 4, **wish}
    return recommend(facts, pools, wish=Wish(**content))  # type: ignore[arg-type]


def options(answer: Recommended) -> dict[str, str | int | float]:
    return answer.ranked[0].vllm_options


def test_one_gpu_is_preferred_to_two_where_it_does() -> None:
    answer = asked("Qwen/Qwen3-8B", pool(H100, 2))

    assert (1, 1, ((0,),)) == (
        options(answer)["tensor-parallel-size"],
        answer.ranked[0].replicas,
        answer.ranked[0].devices,
    )


def test_latency_splits_as_wide_as_the_island() -> None:
    answer = asked("Qwen/Qwen3-8B", pool(H100, 4), objective="latency")

    assert 4 == options(answer)["tensor-parallel-size"]


def test_replicas_are_as_few_as_hold_the_wished_requests() -> None:
    # One H100 holds 12 requests of 32,768 tokens of Qwen3-8B (144 KiB a token, 4.5 GiB a request, 56 GiB of cache).
    answer = asked("Qwen/Qwen3-8B", pool(H100, 8), users_count=20)

    best = answer.ranked[0]
    assert (2, 2) == (best.replicas, len(best.devices))
    assert best.requests_in_flight >= 20


def test_without_a_window_the_longest_that_holds_the_users_is_recommended() -> None:
    answer = asked("Qwen/Qwen3-32B", pool(H100, 1), context_tokens=None, users_count=1)

    window = options(answer)["max-model-len"]
    assert isinstance(window, int)
    assert (0, True) == (window % 256, 16384 < window < 40960)
    assert answer.ranked[0].estimate["interval"]["kv_cache_tokens"][0] > 0  # type: ignore[index]


def test_a_window_that_only_fits_with_luck_is_not_recommended() -> None:
    likely = asked("Qwen/Qwen3-32B", pool(H100, 1), users_count=1).ranked[0].candidate.answer

    answer = asked(
        "Qwen/Qwen3-32B", pool(H100, 1), users_count=1, context_tokens=likely.limits.max_model_len_tokens - 16
    )

    assert "is too close to call" in answer.unmet
    assert "context" == answer.changes[0].kind


def test_layers_are_dealt_out_across_pcie_and_split_within_nvlink() -> None:
    across_pcie = asked("Qwen/Qwen3-32B", pool("NVIDIA L40S", 4))
    bridged = tuple(gpu.model_copy(update={"nvlink_peers": (gpu.index ^ 1,)}) for gpu in gpus("NVIDIA RTX A6000", 4))
    within_pairs = asked("Qwen/Qwen2.5-72B-Instruct", pools_of(host(*bridged)), context_tokens=16384, users_count=1)

    assert (1, True) == (options(across_pcie)["tensor-parallel-size"], "pipeline-parallel-size" in options(across_pcie))
    assert (2, 2) == (
        options(within_pairs)["tensor-parallel-size"],
        options(within_pairs)["pipeline-parallel-size"],
    )
    assert ((0, 1, 2, 3),) == within_pairs.ranked[0].devices


def test_a_split_that_is_no_power_of_two_is_taken_where_the_heads_allow_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "hidden_size": 6144,'
        ' "intermediate_size": 24576, "max_position_embeddings": 40960, "num_attention_heads": 48,'
        ' "num_hidden_layers": 64, "num_key_value_heads": 12, "tie_word_embeddings": false, "dtype": "bfloat16",'
        ' "vocab_size": 151680}',
        encoding="utf-8",
    )

    answer = asked(str(tmp_path), pool("NVIDIA A100-SXM4-40GB", 3), users_count=2, context_tokens=8192)

    assert 3 == options(answer)["tensor-parallel-size"]


def test_engines_run_on_equal_gpus_and_the_smaller_kind_is_enough() -> None:
    mixed = host(*gpus(H100, 2), *gpus("NVIDIA L40S", 2, first=2))

    answer = asked("Qwen/Qwen3-8B", pools_of(mixed), context_tokens=8192, users_count=2)

    assert ((2,),) == answer.ranked[0].devices
    kinds = {one.alternative.partition(" on ")[2] for one in answer.ranked}
    assert {H100, "NVIDIA L40S"} == kinds


def test_models_share_a_host_and_never_a_gpu() -> None:
    answer = asked(("Qwen/Qwen3-32B", "google/gemma-3-12b-it"), pool(H100, 4), objective="latency")

    taken = [position for one in answer.ranked for positions in one.devices for position in positions]
    assert sorted(set(taken)) == sorted(taken)
    assert {"Qwen/Qwen3-32B", "google/gemma-3-12b-it"} == {one.model for one in answer.ranked if one.devices}


def test_too_few_gpus_for_all_models_together_says_how_many_more() -> None:
    answer = asked(("Qwen/Qwen3-8B", "Qwen/Qwen3-14B"), pool(H100, 1), context_tokens=4096, users_count=1)

    assert "together they take at least 2 GPUs" in answer.unmet
    assert ["more_gpus"] == [change.kind for change in answer.changes]


def test_co_tenants_lower_the_utilization_and_a_free_gpu_comes_first() -> None:
    busy, free = gpus(H100, 2)
    busy = busy.model_copy(update={"memory_used_bytes": 30 * GIB})

    alone = asked("Qwen/Qwen3-8B", pools_of(host(busy), co_tenants_stay=True))
    beside = asked("Qwen/Qwen3-8B", pools_of(host(busy, free), co_tenants_stay=True))

    share = options(alone)["gpu-memory-utilization"]
    assert isinstance(share, float)
    assert 0.58 <= share <= 0.62  # (79.2 - 30 - context) / 79.2
    assert "30.00 GiB are held by other processes" in str(alone.ranked[0].reasons)
    assert ((1,),) == beside.ranked[0].devices


def test_a_card_that_others_fill_can_be_had_without_them() -> None:
    busy = gpus(H100, 1)[0].model_copy(update={"memory_used_bytes": 79 * GIB})

    answer = asked("Qwen/Qwen3-8B", pools_of(host(busy), co_tenants_stay=True))

    assert "other processes hold all memory" in answer.unmet
    assert "co_tenants" == answer.changes[0].kind


def test_strict_names_fp8_as_a_change_and_balanced_takes_it_with_its_reason() -> None:
    strict = asked("Qwen/Qwen3-32B", pool(H100, 1))
    balanced = asked("Qwen/Qwen3-32B", pool(H100, 1), quality="balanced")

    assert "fp8_weights" in [change.kind for change in strict.changes]
    assert "Qwen/Qwen3-32B-FP8" == balanced.ranked[0].checkpoint
    assert "the official FP8 release of Qwen/Qwen3-32B" in balanced.ranked[0].reasons[0].because


def test_balanced_keeps_the_unquantised_checkpoint_where_it_does_as_well() -> None:
    answer = asked("Qwen/Qwen3-8B", pool(H100, 1), quality="balanced")

    assert ("Qwen/Qwen3-8B", "auto") == (answer.ranked[0].checkpoint, options(answer)["kv-cache-dtype"])


def test_weights_that_do_not_fit_say_so_and_speak_of_no_window() -> None:
    answer = asked("Qwen/Qwen3-32B", pool("NVIDIA L4", 1))

    assert "the weights alone need 61.02 GiB on each GPU" in answer.unmet
    assert " 0 tokens" not in answer.unmet
    assert ["more_gpus", "another_gpu"] == [change.kind for change in answer.changes]


def test_the_cheapest_change_gives_up_the_smallest_share_of_the_wish() -> None:
    # 32,768 tokens for 5 users almost fit: a slightly shorter window is cheaper than half the users or a new GPU.
    answer = asked("Qwen/Qwen3-8B", pool(H100, 1), users_count=13)

    assert answer.changes[0].kind in {"context", "users"}
    assert answer.changes[0].cost < 0.1
    assert answer.unmet.count("cheapest change: ") == 1


@pytest.mark.parametrize("index", range(3))
def test_a_change_that_is_offered_meets_the_wish(index: int) -> None:
    # Strict, one H100, four users of 32,768 tokens: a shorter window, fewer users, one more GPU.
    answer = asked("Qwen/Qwen3-32B", pool(H100, 1))
    kinds = {change.kind: change.text for change in answer.changes}
    window = int(kinds["context"].split()[3])
    users = int(kinds["users"].split()[0])

    again = [
        asked("Qwen/Qwen3-32B", pool(H100, 1), context_tokens=window),
        asked("Qwen/Qwen3-32B", pool(H100, 1), users_count=users),
        asked("Qwen/Qwen3-32B", pool(H100, 2)),
    ][index]

    assert "" == again.unmet


def test_mig_devices_are_never_joined() -> None:
    slices = tuple(gpu.model_copy(update={"mig": True, "memory_total_bytes": 20 * GIB}) for gpu in gpus(H100, 2))

    answer = asked("Qwen/Qwen3-14B", pools_of(host(*slices)), context_tokens=4096, users_count=1)

    assert "does not fit 1 x" in answer.unmet
    assert "more_gpus" not in [change.kind for change in answer.changes]


def test_requests_shorter_than_the_window_are_counted_by_their_own_length() -> None:
    answer = asked("Qwen/Qwen3-32B", pool(H100, 1), context_tokens=16384, users_count=8, request_tokens=2048)

    assert "" == answer.unmet
    assert answer.ranked[0].requests_in_flight >= 8
