"""Which requests are internal, and what else a request asks for: read from every form that LiteLLM takes."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "data_fence.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("data_fence", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["data_fence"] = module
    spec.loader.exec_module(module)
    return module


data_fence = _load()
FENCE = data_fence.Fence(internal=frozenset({"qwen", "qwen-relay"}), inside=frozenset({"qwen-relay", "lab-a"}))


@pytest.mark.parametrize(
    "data",
    [
        {"model": "qwen"},
        {"model": "qwen-relay"},
        {"model": "gpt, qwen"},
        {"model": ["gpt", "qwen"]},
        {"model": "gpt", "metadata": {"original_model_group": "qwen"}},
        {"model": "gpt", "litellm_metadata": {"model_group": "qwen"}},
        {"model": "gpt", "metadata": None, "litellm_metadata": {"original_model_group": "qwen"}},
    ],
)
def test_a_request_is_internal_if_anything_says_so(data: dict[str, Any]) -> None:
    assert str(FENCE.internal_of(data)).startswith("qwen")


@pytest.mark.parametrize("data", [{"model": "gpt"}, {"model": "qwen2"}, {}, {"model": None, "metadata": "qwen"}])
def test_no_other_request_is(data: dict[str, Any]) -> None:
    assert FENCE.internal_of(data) is None


@pytest.mark.parametrize(
    "fallbacks",
    [
        ["gpt"],
        [{"model": "gpt", "messages": []}],
        [{"qwen": ["gpt"]}],
        [{"*": ["gpt"]}],
        {"qwen": ["gpt"]},
        "gpt",
        [["gpt"]],
        [{"qwen": [{"model": "gpt"}]}],
    ],
)
@pytest.mark.parametrize("kind", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
def test_a_clients_own_fallbacks_are_seen_in_every_form(kind: str, fallbacks: Any) -> None:
    assert ["gpt"] == list(data_fence.own_fallbacks({"model": "qwen", kind: fallbacks}))


def test_a_call_without_a_deployment_has_none() -> None:
    assert "lab-a" == data_fence.deployment_id({"model_info": {"id": "lab-a"}})
    assert data_fence.deployment_id({"model_info": {}}) is None
    assert data_fence.deployment_id({}) is None
