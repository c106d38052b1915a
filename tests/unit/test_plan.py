"""The plan refuses to contradict itself."""

import copy
from typing import Any

import pytest

from sizing.errors import DocumentError
from sizing.plan import Plan

GIB = 1024**3


def plan_content() -> dict[str, Any]:
    """One CPU engine behind one model, written by hand."""
    return {
        "schema_version": 1,
        "site": "s",
        "vllm_version": "0.32.0",
        "litellm_version": "1.109.1",
        "request_digest": "sha256:aa",
        "hosts": {
            "h2": {
                "accelerator": "cpu",
                "hardware_digest": "sha256:bb",
                "engines": [
                    {
                        "name": "chat",
                        "model": "chat",
                        "model_directory": "chat",
                        "cpu_cores": [0],
                        "memory": {
                            "usable_bytes": 8 * GIB,
                            "requested_bytes": 3 * GIB,
                            "weights_bytes": GIB,
                            "activation_bytes": 0,
                            "non_torch_bytes": GIB,
                            "cuda_graph_bytes": 0,
                            "kv_cache_bytes": GIB,
                        },
                        "kv_cache": {
                            "tokens": 699008,
                            "block_count": 5461,
                            "block_size_tokens": 128,
                            "max_concurrency_ratio": 341.3125,
                        },
                        "vllm_options": {
                            "host": "10.0.0.2",
                            "port": 8001,
                            "served-model-name": "chat",
                            "tensor-parallel-size": 1,
                            "max-model-len": 2048,
                            "max-num-seqs": 32,
                            "max-num-batched-tokens": 2048,
                            "kv-cache-memory-bytes": GIB,
                        },
                    }
                ],
            }
        },
        "gateway": {
            "hosts": ["h1"],
            "address": "10.0.0.1",
            "port": 4000,
            "workers": 1,
            "routing": {},
            "relays": [
                {
                    "group": "chat",
                    "model": "chat",
                    "served_model_name": "chat",
                    "port": 4101,
                    "max_model_len": 2048,
                    "concurrent_requests_per_replica": 32,
                    "replicas": [{"id": "chat@h2", "api_base": "http://10.0.0.2:8001/v1"}],
                }
            ],
            "deployments": [
                {
                    "model": "chat",
                    "id": "chat-relay",
                    "api_base": "http://127.0.0.1:4101/v1",
                    "served_model_name": "chat",
                }
            ],
        },
        "models": [
            {
                "name": "chat",
                "model_directory": "chat",
                "max_input_tokens": 1536,
                "max_output_tokens": 512,
                "input_cost_per_token": 0.0,
                "output_cost_per_token": 0.0,
                "deployments": [
                    {
                        "id": "chat@h2",
                        "host": "h2",
                        "engine": "chat",
                        "api_base": "http://10.0.0.2:8001/v1",
                        "served_model_name": "chat",
                    }
                ],
            }
        ],
    }


def test_a_consistent_plan_loads_and_keeps_vllms_own_option_names() -> None:
    plan = Plan.parse(plan_content(), origin="plan")

    text = plan.to_group_vars()

    assert '"max-model-len": 2048' in text
    assert text.startswith('{\n  "appliance_plan": {')


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("models", 0, "max_input_tokens"), 1537, "smallest max-model-len is 2048"),
        (("hosts", "h2", "engines", 0, "memory", "weights_bytes"), 5, "add up to"),
        (("hosts", "h2", "engines", 0, "memory", "usable_bytes"), GIB, "usable bytes"),
        (("models", 0, "deployments", 0, "engine"), "other", "no such engine"),
        (("models", 0, "deployments", 0, "api_base"), "http://10.0.0.3:8001/v1", "is not where chat listens"),
        (("hosts", "h2", "engines", 0, "cpu_cores"), [], "needs either GPUs or CPU cores"),
        (("site",), "{{ lookup('pipe', 'id') }}", "templates have no place in a plan"),
        (("surprise",), 1, "Extra inputs are not permitted"),
        (("gateway", "relays"), [], "chat has no relay; make the plan again"),
        (("gateway", "relays", 0, "replicas", 0, "api_base"), "http://10.0.0.3:8001/v1", "is no replica of relay chat"),
        (("gateway", "relays", 0, "max_model_len"), 1024, "chat has a window of 2048 tokens"),
        (("gateway", "relays", 0, "port"), 4000, "which the gateway has on a gateway host"),
        (("gateway", "relays", 0, "host"), "10.0.0.1", "Input should be '127.0.0.1'"),
        (("gateway", "deployments", 0, "api_base"), "http://10.0.0.2:8001/v1", "are not the relays"),
    ],
)
def test_a_plan_edited_by_hand_is_refused_with_one_line(path: tuple[Any, ...], value: Any, message: str) -> None:
    content = plan_content()
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(DocumentError, match=message) as refusal:
        Plan.parse(content, origin="appliance_plan.json")

    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("appliance_plan.json: ")


def test_two_engines_of_a_host_cannot_share_a_port() -> None:
    content = plan_content()
    second = copy.deepcopy(content["hosts"]["h2"]["engines"][0])
    second |= {"name": "chat-2", "cpu_cores": [1]}
    content["hosts"]["h2"]["engines"].append(second)

    with pytest.raises(DocumentError, match="port 8001 is handed to 2 engines"):
        Plan.parse(content, origin="plan")


def test_an_engine_behind_no_model_is_refused() -> None:
    content = plan_content()
    second = copy.deepcopy(content["hosts"]["h2"]["engines"][0])
    second |= {"name": "spare", "cpu_cores": [1]}
    second["vllm_options"]["port"] = 8002
    content["hosts"]["h2"]["engines"].append(second)

    with pytest.raises(DocumentError, match="spare on h2 serves no model"):
        Plan.parse(content, origin="plan")


def test_a_relay_cannot_take_the_port_of_an_engine_on_a_gateway_host() -> None:
    content = plan_content()
    content["gateway"]["hosts"] = ["h1", "h2"]
    content["gateway"]["relays"][0]["port"] = 8001
    content["gateway"]["deployments"][0]["api_base"] = "http://127.0.0.1:8001/v1"

    with pytest.raises(DocumentError, match="relay chat has port 8001, which engine chat has on a gateway host"):
        Plan.parse(content, origin="plan")


def test_a_relay_without_a_model_is_refused() -> None:
    content = plan_content()
    second = copy.deepcopy(content["gateway"]["relays"][0])
    second |= {"group": "other", "model": "other", "port": 4102}
    content["gateway"]["relays"].append(second)

    with pytest.raises(DocumentError, match="relay other serves other, which is no model of the plan"):
        Plan.parse(content, origin="plan")
