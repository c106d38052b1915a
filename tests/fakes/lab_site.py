"""A site of three hosts, written by hand: its plan, and an observation in which everything is as planned.

h1 is the gateway; h2 and h3 carry a Qwen engine each, h3 a Gemma engine besides. Figures are those of real engines.
"""

from typing import Any

MIB = 1024**2
RUN = "verify-20261121t050000z-3f2a1bg0"
QWEN = "tiny-qwen3"
GEMMA = "tiny-gemma3"


def plan_content() -> dict[str, Any]:
    """The plan."""
    return {
        "schema_version": 1,
        "site": "lab",
        "vllm_version": "0.32.0",
        "litellm_version": "1.109.1",
        "request_digest": "sha256:aa",
        "hosts": {
            "h2": _host([_engine(QWEN, core=0, port=8001, address="10.77.0.12")]),
            "h3": _host(
                [
                    _engine(QWEN, core=0, port=8001, address="10.77.0.13"),
                    _engine(GEMMA, core=1, port=8002, address="10.77.0.13"),
                ]
            ),
        },
        "gateway": {
            "hosts": ["h1"],
            "address": "10.77.0.11",
            "port": 4000,
            "workers": 1,
            "routing": {},
            "relays": [
                _relay(QWEN, 4101, 2048, [("h2", "10.77.0.12", 8001), ("h3", "10.77.0.13", 8001)]),
                _relay(GEMMA, 4102, 1024, [("h3", "10.77.0.13", 8002)]),
            ],
            "deployments": [_relayed(QWEN, 4101), _relayed(GEMMA, 4102)],
        },
        "models": [
            _model(
                QWEN,
                input_tokens=1536,
                output_tokens=512,
                deployments=[("h2", "10.77.0.12", 8001), ("h3", "10.77.0.13", 8001)],
            ),
            _model(GEMMA, input_tokens=768, output_tokens=256, deployments=[("h3", "10.77.0.13", 8002)]),
        ],
    }


def observation_content() -> dict[str, Any]:
    """The observation: two chats of each model answered, two refused, everything booked."""
    calls = [*_calls(QWEN, 2048, first_number=1), *_calls(GEMMA, 1024, first_number=5)]
    accepted = [call for call in calls if call["status"] == 200]
    return {
        "schema_version": 1,
        "site": "lab",
        "run_id": RUN[:-2],
        "started_at": "2026-11-21T05:00:00Z",
        "seconds": 11.25,
        "unanswered": {},
        "counters": {
            "h2": [{"name": QWEN, "refused_chat_count": 1}],
            "h3": [{"name": QWEN, "refused_chat_count": 0}, {"name": GEMMA, "refused_chat_count": 2}],
        },
        "engines": {
            "h2": [_seen(QWEN, 2048, 43648, 341, refused=1, ids=[f"{RUN}-001"])],
            "h3": [
                _seen(QWEN, 2048, 43648, 341, refused=0, ids=[f"{RUN}-002"]),
                _seen(GEMMA, 1024, 31300, 244, refused=2, ids=[f"{RUN}-005", f"{RUN}-006"]),
            ],
        },
        "gateways": {
            "h1": {
                "url": "http://10.77.0.11:4000",
                "version": "1.109.1",
                "keyless_status": 401,
                "key_alias": RUN,
                "key_hash": "cafe",
                "declared": [
                    _declared(QWEN, "tiny-qwen3-relay", "http://127.0.0.1:4101/v1", 1536, 512),
                    _declared(GEMMA, "tiny-gemma3-relay", "http://127.0.0.1:4102/v1", 768, 256),
                ],
                "calls": calls,
            }
        },
        "relays": {
            "h1": [
                _relay_seen(QWEN, ["h2-tiny-qwen3", "h3-tiny-qwen3"]),
                _relay_seen(GEMMA, ["h3-tiny-gemma3"]),
            ]
        },
        "spend": {
            "waited_seconds": 3.5,
            "rows": [_row(call) for call in accepted],
            "key_spend": {"cafe": 0.000264},
        },
    }


def _host(engines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"accelerator": "cpu", "hardware_digest": "sha256:bb", "engines": engines}


def _engine(name: str, *, core: int, port: int, address: str) -> dict[str, Any]:
    qwen = name == QWEN
    return {
        "name": name,
        "model": name,
        "model_directory": name,
        "cpu_cores": [core],
        "memory": {
            "usable_bytes": 8192 * MIB,
            "requested_bytes": 1600 * MIB,
            "weights_bytes": 2 * MIB,
            "activation_bytes": 134 * MIB,
            "non_torch_bytes": 1400 * MIB,
            "cuda_graph_bytes": 0,
            "kv_cache_bytes": 64 * MIB,
        },
        "memory_max_bytes": 3072 * MIB,
        "kv_cache": {
            "tokens": 43648 if qwen else 31300,
            "block_count": 341 if qwen else 244,
            "block_size_tokens": 128,
            "max_concurrency_ratio": 21.3125 if qwen else 30.57,
        },
        "vllm_options": {
            "host": address,
            "port": port,
            "served-model-name": name,
            "tensor-parallel-size": 1,
            "max-model-len": 2048 if qwen else 1024,
            "max-num-seqs": 16,
            "max-num-batched-tokens": 2048,
            "kv-cache-memory-bytes": 64 * MIB,
        },
    }


def _model(
    name: str, *, input_tokens: int, output_tokens: int, deployments: list[tuple[str, str, int]]
) -> dict[str, Any]:
    return {
        "name": name,
        "model_directory": name,
        "max_input_tokens": input_tokens,
        "max_output_tokens": output_tokens,
        "input_cost_per_token": 0.000001,
        "output_cost_per_token": 0.000002,
        "deployments": [
            {
                "id": f"{host}-{name}",
                "host": host,
                "engine": name,
                "api_base": f"http://{address}:{port}/v1",
                "served_model_name": name,
            }
            for host, address, port in deployments
        ],
    }


def _relay(name: str, port: int, window_tokens: int, engines: list[tuple[str, str, int]]) -> dict[str, Any]:
    return {
        "group": name,
        "model": name,
        "served_model_name": name,
        "port": port,
        "max_model_len": window_tokens,
        "concurrent_requests_per_replica": 16,
        "replicas": [
            {"id": f"{host}-{name}", "api_base": f"http://{address}:{engine_port}/v1"}
            for host, address, engine_port in engines
        ],
    }


def _relayed(name: str, port: int) -> dict[str, Any]:
    return {
        "model": name,
        "id": f"{name}-relay",
        "api_base": f"http://127.0.0.1:{port}/v1",
        "served_model_name": name,
    }


def _seen(name: str, window_tokens: int, tokens: int, blocks: int, *, refused: int, ids: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "health_status": 200,
        "version": "0.32.0+cpu",
        "served_model_name": name,
        "max_model_len": window_tokens,
        "keyless_models_status": 401,
        "keyless_chat_status": 401,
        "kv_cache_tokens": tokens,
        "block_count": blocks,
        "block_size_tokens": 128,
        "first_token_status": 200,
        "first_token_count": 1,
        "first_token_seconds": 0.031,
        "refused_chat_count": refused,
        "active_state": "active",
        "restart_count": 0,
        "memory_current_bytes": 1396 * MIB,
        "journal_read": True,
        "journal_request_ids": ids,
    }


def _relay_seen(group: str, replicas: list[str]) -> dict[str, Any]:
    return {
        "group": group,
        "active_state": "active",
        "status": 200,
        "keyless_status": 401,
        "replicas": [{"id": one, "state": "serving"} for one in replicas],
    }


def _declared(model: str, deployment: str, api_base: str, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "deployment_id": deployment,
        "api_base": api_base,
        "max_input_tokens": input_tokens,
        "max_output_tokens": output_tokens,
    }


def _calls(model: str, window_tokens: int, *, first_number: int) -> list[dict[str, Any]]:
    """34 tokens in and 16 out for each answered call: 66 millionths at the plan's prices."""
    numbers = iter(range(first_number, first_number + 4))
    answered = {
        "model": model,
        "asked_output_tokens": 16,
        "status": 200,
        "deployment_id": f"{model}-relay",
        "text_characters": 61,
        "finish_reason": "length",
        "prompt_tokens": 34,
        "completion_tokens": 16,
        "seconds": 0.084,
    }
    refused = {"model": model, "status": 400, "seconds": 0.019}
    words = f"prompt of 4001 tokens and max_tokens 1 exceed the window of {window_tokens} tokens of {model}"
    chat_id, stream_id, long_id, window_id = (f"{RUN}-{number:03d}" for number in numbers)
    return [
        {**answered, "kind": "chat", "request_id": chat_id, "response_id": f"chatcmpl-{chat_id}"},
        {
            **answered,
            "kind": "stream",
            "request_id": stream_id,
            "response_id": f"chatcmpl-{stream_id}",
            "done_after_finish": True,
            "first_token_seconds": 0.024,
            "seconds": 0.097,
        },
        {**refused, "kind": "over-long", "request_id": long_id, "asked_output_tokens": 1, "message": words},
        {
            **refused,
            "kind": "over-window",
            "request_id": window_id,
            "asked_output_tokens": window_tokens - 33,
            "message": words,
        },
    ]


def _row(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": call["response_id"],
        "call_id": call["request_id"],
        "model": call["model"],
        "status": "success",
        "prompt_tokens": 34,
        "completion_tokens": 16,
        "spend": 0.000066,
    }
