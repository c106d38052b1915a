"""A configuration that LiteLLM would misread in silence is refused, each fault in one line with its path."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files"

Config = dict[str, Any]


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_load("config_shapes")
validate_config = _load("validate_config")


def _deployment(model: str, identity: str) -> Config:
    return {
        "model_name": model,
        "litellm_params": {
            "model": f"hosted_vllm/{model}",
            "api_base": "http://10.77.0.12:8000/v1",
            "api_key": "os.environ/VLLM_API_KEY",
        },
        "model_info": {
            "id": identity,
            "mode": "chat",
            "max_input_tokens": 1536,
            "max_output_tokens": 512,
            "input_cost_per_token": 0.000001,
            "output_cost_per_token": 0.000002,
            "cache_read_input_token_cost": 0.000001,
            "cache_creation_input_token_cost": 0.000001,
        },
    }


def _declared(**parameters: str) -> Config:
    return {
        "model_name": "gpt",
        "litellm_params": {"model": "openai/gpt-5", "api_key": "os.environ/PROVIDER_KEY_OPENAI", **parameters},
        "model_info": {"id": "gpt-cloud", "mode": "chat"},
    }


def _config() -> Config:
    return {
        "model_list": [_deployment("qwen", "qwen-a"), _deployment("qwen", "qwen-b"), _deployment("gemma", "gemma-a")],
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "num_retries": 2,
            "retry_after": 0,
            "timeout": 600,
            "stream_timeout": 60,
            "allowed_fails": 1,
            "cooldown_time": 10,
            "enable_pre_call_checks": True,
            "enable_mid_stream_fallback_continuation": False,
            "fallback_on_unsupported_params": False,
            "model_group_retry_policy": {},
            "fallbacks": [{"qwen": ["gemma"]}],
            "redis_host": "10.77.0.11",
            "redis_port": 6379,
            "redis_password": "os.environ/REDIS_PASSWORD",
        },
        "litellm_settings": {
            "callbacks": ["token_window.instance"],
            "request_timeout": 600,
            "enable_redis_auth_cache": True,
            "disable_hf_tokenizer_download": True,
            "turn_off_message_logging": True,
            "telemetry": False,
        },
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 10,
            "proxy_batch_write_at": 10,
            "user_api_key_cache_ttl": 3600,
            "use_redis_transaction_buffer": True,
            "maximum_spend_logs_retention_period": "90d",
            "store_model_in_db": False,
            "trusted_proxy_ranges": [],
            "include_call_id_in_error_body": True,
        },
    }


def _without(mapping: Config, key: str) -> None:
    del mapping[key]


def test_what_the_role_writes_has_no_faults() -> None:
    assert [] == validate_config.faults(_config())


FAULTS: list[tuple[str, Callable[[Config], Any], str]] = [
    (
        "a key that LiteLLM does not know",
        lambda c: c["router_settings"].update(num_retrys=2),
        "router_settings.num_retrys: unknown key; LiteLLM would ignore it in silence",
    ),
    (
        "an unknown section",
        lambda c: c.update(router_setting={}),
        "router_setting: unknown key; LiteLLM would ignore it in silence",
    ),
    (
        "the flag that lets every key in while the database is down",
        lambda c: c["general_settings"].update(allow_requests_on_db_unavailable=True),
        "general_settings.allow_requests_on_db_unavailable: unknown key; LiteLLM would ignore it in silence",
    ),
    (
        "a deployment without api_base",
        lambda c: _without(c["model_list"][1]["litellm_params"], "api_base"),
        "model_list[1].litellm_params.api_base: missing",
    ),
    (
        "a number as text",
        lambda c: c["router_settings"].update(cooldown_time="10"),
        "router_settings.cooldown_time: Input should be a valid integer; found '10'",
    ),
    (
        "a price that YAML read as text",
        lambda c: c["model_list"][0]["model_info"].update(input_cost_per_token="1e-06"),
        "model_list[0].model_info.input_cost_per_token: Input should be a valid number; found '1e-06'",
    ),
    (
        "a secret in the file",
        lambda c: c["general_settings"].update(master_key="sk-1234"),
        "general_settings.master_key: must be os.environ/NAME; the value itself has no place in this file",
    ),
    (
        "an address that does not end in /v1",
        lambda c: c["model_list"][0]["litellm_params"].update(api_base="http://10.77.0.12:8000"),
        "model_list[0].litellm_params.api_base: String should match pattern '^https?://[^/\\s]+/v1$'; "
        "found 'http://10.77.0.12:8000'",
    ),
    (
        "a fallback to a model that is not there",
        lambda c: c["router_settings"].update(fallbacks=[{"qwen": ["gemma", "llama"]}]),
        "router_settings.fallbacks[0].qwen: falls back to 'llama', which is not in model_list",
    ),
    (
        "a fallback of a model that is not there",
        lambda c: c["router_settings"].update(fallbacks=[{"llama": ["gemma"]}]),
        "router_settings.fallbacks[0].llama: no model of that name in model_list",
    ),
    (
        "a fallback to itself",
        lambda c: c["router_settings"].update(fallbacks=[{"qwen": ["qwen"]}]),
        "router_settings.fallbacks[0].qwen: falls back to itself",
    ),
    (
        "a key of a provider in the file",
        lambda c: c["model_list"].append(_declared(api_key="sk-1234")),
        "model_list[3].litellm_params.api_key: must be os.environ/NAME; the value itself has no place in this file",
    ),
    (
        "a setting of a provider that LiteLLM does not know",
        lambda c: c["model_list"].append(_declared(region="eu")),
        "model_list[3].litellm_params.region: unknown key; LiteLLM would ignore it in silence",
    ),
    (
        "a default fallback that is not there",
        lambda c: c["router_settings"].update(default_fallbacks=["llama"]),
        "router_settings.default_fallbacks: falls back to 'llama', which is not in model_list",
    ),
    (
        "a routing group that clients could call",
        lambda c: c["router_settings"].update(
            routing_groups=[{"group_name": "fast", "models": ["qwen"], "routing_strategy": "least-busy"}]
        ),
        "router_settings.routing_groups[0]: must be named as its one model, and that be in model_list",
    ),
    (
        "an alias for nothing",
        lambda c: c["router_settings"].update(model_group_alias={"little": "llama"}),
        "router_settings.model_group_alias.little: must be a new name for a model in model_list",
    ),
    (
        "windows that differ within a model",
        lambda c: c["model_list"][1]["model_info"].update(max_output_tokens=1024),
        "model_list[1].model_info: qwen declares max_input_tokens + max_output_tokens = 1536 + 1024 here and "
        "1536 + 512 in model_list[0]; one model has one window",
    ),
]


@pytest.mark.parametrize(("break_it", "fault"), [pytest.param(*case[1:], id=case[0]) for case in FAULTS])
def test_each_fault_is_one_line_with_its_path(break_it: Callable[[Config], Any], fault: str) -> None:
    config = copy.deepcopy(_config())
    break_it(config)

    assert [fault] == validate_config.faults(config)


def test_both_places_of_a_repeated_id_are_named() -> None:
    config = _config()
    config["model_list"][2]["model_info"]["id"] = "qwen-a"

    assert [
        "model_list[0].model_info.id: 'qwen-a' stands 2 times; ids must differ",
        "model_list[2].model_info.id: 'qwen-a' stands 2 times; ids must differ",
    ] == validate_config.faults(config)


def test_a_file_that_is_no_yaml_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "config.yaml"
    broken.write_text("model_list: [\n")
    monkeypatch.setattr(sys, "argv", ["validate_config.py", str(broken)])

    status = validate_config.main()

    assert 1 == status
    lines = capsys.readouterr().err.splitlines()
    assert 1 == len(lines)
    assert "line 2, column 1" in lines[0]


def _caching(**changes: Any) -> Config:
    config = _config()
    params = {
        "type": "redis", "mode": "default_off", "ttl": 600, "supported_call_types": ["acompletion"],
        "host": "10.77.0.11", "port": 6379, "password": "os.environ/REDIS_PASSWORD",
    }  # fmt: skip
    config["litellm_settings"] |= {
        "cache": True, "cache_params": params | changes, "callbacks": ["response_cache.instance"],
    }  # fmt: skip
    return config


def test_a_cache_of_answers_is_accepted_when_it_is_asked_for_only_and_keeps_keys_apart() -> None:
    together = _caching()
    together["litellm_settings"]["callbacks"] = ["token_window.instance"]

    assert [] == list(validate_config.faults(_caching()))
    assert any("mode" in fault for fault in validate_config.faults(_caching(mode="default_on")))
    assert any("each other's answers" in fault for fault in validate_config.faults(together))
