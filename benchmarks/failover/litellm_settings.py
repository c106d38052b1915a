"""LiteLLM settings: what the two gateways of a comparison are told: the role's own template before a relay, and nothing
but a list of engines beside it.

The role's settings are read from its template, so that they cannot drift from what a site gets. What needs PostgreSQL,
Redis or a tokenizer is taken out; client headers are handed on, so that the relay's ledger names the clients' requests.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import yaml

from benchmarks.failover.site import Engine
from benchmarks.null_process import ROOT
from sizing.request import Routing

ROLE = ROOT / "roles" / "gateway"
WITHOUT_REDIS = ("redis_host", "redis_port", "redis_password")
ENGINE_KEY = "VLLM_API_KEY"
MASTER_KEY = "LITELLM_MASTER_KEY"


def defaults(engines: Sequence[Engine], *, model: str) -> dict[str, Any]:
    """A model list and a key, and nothing else."""
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"hosted_vllm/{model}",
                    "api_base": f"{engine.address}/v1",
                    "api_key": f"os.environ/{ENGINE_KEY}",
                },
                "model_info": {"id": engine.name},
            }
            for engine in engines
        ],
        "general_settings": {"master_key": f"os.environ/{MASTER_KEY}"},
    }


def of_the_appliance(relay: str, *, model: str, max_model_len: int, routing: Routing | None = None) -> dict[str, Any]:
    """The role's configuration for one model behind one relay."""
    rendered: dict[str, Any] = yaml.safe_load(
        _template().render(
            _role_variables()
            | {
                "ansible_managed": "",
                "gateway_models": [
                    {
                        "name": model,
                        "max_input_tokens": max_model_len - 1,
                        "max_output_tokens": max_model_len - 1,
                        "input_cost_per_token": 0.0,
                        "output_cost_per_token": 0.0,
                        "fallbacks": [],
                    }
                ],
                "gateway_deployments": [
                    {"id": f"{model}-relay", "model": model, "served_model_name": model, "api_base": f"{relay}/v1"}
                ],
                "gateway_router": (routing or Routing()).model_dump(),
                "gateway_redis_host": "",
            }
        )
    )
    for name in WITHOUT_REDIS:
        del rendered["router_settings"][name]
    for name in ("callbacks", "enable_redis_auth_cache"):
        del rendered["litellm_settings"][name]
    rendered["router_settings"]["fallbacks"] = []  # there is one model
    rendered["router_settings"]["enable_pre_call_checks"] = False  # it would count tokens without a tokenizer
    rendered["general_settings"] = {
        "master_key": f"os.environ/{MASTER_KEY}",
        "forward_client_headers_to_llm_api": True,
    }
    return rendered


def _template() -> jinja2.Template:
    environment = jinja2.Environment(  # noqa: S701  YAML, no HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"to_json": json.dumps}
    environment.tests |= {"truthy": _truthy, "search": _matches}
    return environment.from_string((ROLE / "templates" / "config.yaml.j2").read_text(encoding="utf-8"))


def _truthy(value: object) -> bool:
    return bool(value)


def _matches(text: str, pattern: str) -> bool:
    return re.search(pattern, text) is not None


def _role_variables() -> dict[str, Any]:
    """The role's defaults and its own constants; what Ansible would have to work out is not among them."""
    found: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    private = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    return found | {name: value for name, value in private.items() if "{{" not in str(value)}
