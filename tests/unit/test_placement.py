"""Placement: engines spread over hosts, devices are never shared, and a wish that cannot be met says why."""

import json
from pathlib import Path

import pytest

from sizing.errors import DoesNotFit, UnknownFact
from sizing.hardware import Cpu, Gpu, Hardware
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.placement import Placement, place
from sizing.request import ModelRequest

GIB = 1024**3
TINY_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 64,
    "hidden_size": 128,
    "intermediate_size": 256,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "vocab_size": 1024,
}


@pytest.fixture
def tiny(tmp_path: Path) -> ModelFacts:
    directory = tmp_path / "tiny-qwen3"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(TINY_QWEN3), encoding="utf-8")
    return load_model_facts("tiny-qwen3", model_store=tmp_path)


def cpu_host(name: str, *, cores: int = 2, memory_bytes: int = 8 * GIB) -> Hardware:
    return Hardware(
        host=name,
        accelerator="cpu",
        cpu=Cpu(model="EPYC", architecture="x86_64", cores=tuple(range(cores))),
        memory_total_bytes=memory_bytes,
    )


def gpu_host(name: str, *, gpus: int) -> Hardware:
    return Hardware(
        host=name,
        accelerator="cuda",
        cpu=Cpu(model="EPYC", architecture="x86_64", cores=(0, 1)),
        memory_total_bytes=512 * GIB,
        gpus=tuple(
            Gpu(
                index=index,
                uuid=f"GPU-{name}-{index}",
                name="NVIDIA H100 80GB HBM3",
                memory_total_bytes=81559 * 1024**2,
                memory_reserved_bytes=625 * 1024**2,
                compute_capability=(9, 0),
            )
            for index in range(gpus)
        ),
    )


def wish(name: str = "chat", **changes: object) -> ModelRequest:
    content = {"name": name, "source": name, "context_tokens": 2048, "output_tokens": 512, **changes}
    return ModelRequest.model_validate(content)


def placed(request: ModelRequest, facts: ModelFacts, hosts: list[Hardware]) -> Placement:
    return place([(request, facts)], {host.host: host for host in hosts}, objective="throughput", quality="strict")


def test_two_replicas_go_to_two_hosts(tiny: ModelFacts) -> None:
    placement = placed(wish(replicas=2), tiny, [cpu_host("h2"), cpu_host("h3")])

    assert ["h2", "h3"] == [engine.host for engine in placement.engines]


def test_a_lone_cpu_engine_leaves_the_first_core_to_the_api_server(tiny: ModelFacts) -> None:
    placement = placed(wish(), tiny, [cpu_host("h2", cores=4)])

    assert [(1, 2, 3)] == [engine.cpu_cores for engine in placement.engines]


def test_engines_on_one_cpu_host_never_share_a_core(tiny: ModelFacts) -> None:
    placement = placed(wish(replicas=2), tiny, [cpu_host("h2", cores=2)])

    assert [(0,), (1,)] == [engine.cpu_cores for engine in placement.engines]


def test_the_kv_cache_of_a_cpu_engine_holds_every_users_whole_window(tiny: ModelFacts) -> None:
    # 3 layers x 2 KV heads x 64 x (K and V) x 2 bytes = 1536 bytes a token, 128 tokens a block, 16 blocks a user:
    # ten users need 31,457,280 bytes; the next whole step of 16 MiB is 33,554,432.
    placement = placed(wish(users=10), tiny, [cpu_host("h2")])

    configuration = placement.engines[0].candidate.configuration
    assert 33_554_432 == configuration.kv_cache_memory_bytes


def test_gpus_are_handed_out_once_and_in_order() -> None:
    facts = load_model_facts("Qwen/Qwen3-14B", model_store=None)

    placement = placed(wish("Qwen3-14B", context_tokens=8192, replicas=3, users=3), facts, [gpu_host("g1", gpus=4)])

    assert [("GPU-g1-0",), ("GPU-g1-1",), ("GPU-g1-2",)] == [engine.gpu_uuids for engine in placement.engines]


def test_a_model_too_large_for_one_gpu_takes_two_rather_than_being_refused() -> None:
    facts = load_model_facts("Qwen/Qwen3-32B", model_store=None)

    placement = placed(wish("Qwen3-32B", context_tokens=32768, users=4), facts, [gpu_host("g1", gpus=4)])

    assert ("GPU-g1-0", "GPU-g1-1") == placement.engines[0].gpu_uuids
    assert any("1 x NVIDIA H100" in line or "wished" in line for line in placement.rejections)


def test_no_room_names_the_model_and_what_was_tried() -> None:
    facts = load_model_facts("Qwen/Qwen2.5-72B-Instruct", model_store=None)

    with pytest.raises(DoesNotFit, match=r"no host can carry big: g1: big: .*does not fit") as refusal:
        placed(wish("big", context_tokens=32768), facts, [gpu_host("g1", gpus=1)])

    assert refusal.value.exit_code == 3
    assert "\n" not in str(refusal.value)


def test_more_cpu_engines_than_cores_is_refused(tiny: ModelFacts) -> None:
    with pytest.raises(DoesNotFit, match="each of its CPU cores carries an engine"):
        placed(wish(replicas=3), tiny, [cpu_host("h2", cores=2)])


def test_engines_never_request_more_memory_than_the_host_has(tiny: ModelFacts) -> None:
    with pytest.raises(DoesNotFit, match="of memory; "):
        placed(wish(replicas=4), tiny, [cpu_host("h2", cores=8, memory_bytes=5 * GIB)])


def test_a_host_that_carries_no_engines_cannot_be_asked_for(tiny: ModelFacts) -> None:
    with pytest.raises(UnknownFact, match="asks for host h9; group engines has h2"):
        placed(wish(hosts=["h9"]), tiny, [cpu_host("h2")])


def test_the_same_input_gives_the_same_placement(tiny: ModelFacts) -> None:
    hosts = [cpu_host("h3"), cpu_host("h2")]

    assert placed(wish(replicas=2), tiny, hosts) == placed(wish(replicas=2), tiny, list(reversed(hosts)))
