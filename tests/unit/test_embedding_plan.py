"""An embedding model in the request: a pooling engine in the plan, its whole window for what is embedded."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sizing.errors import SizingError
from sizing.plan import Plan
from sizing.recommend_site import recommend_site
from sizing.request import Request
from tests.unit.test_cli_site import make_site

CHAT = {"name": "small", "source": "Qwen/Qwen3-0.6B", "context_tokens": 2048, "output_tokens": 512, "users": 2}
VECTORS = {"name": "vectors", "source": "Qwen/Qwen3-0.6B", "context_tokens": 1024, "task": "embedding", "users": 2}


def request_of(*models: dict[str, Any]) -> Request:
    return Request.model_validate({"schema_version": 1, "site": "test", "models": list(models)})


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    site = make_site(tmp_path_factory.mktemp("vectors"))
    request = {"schema_version": 1, "site": "test", "gateway_workers": 2, "models": [CHAT, VECTORS]}
    (site / "request.yml").write_text(yaml.safe_dump(request), encoding="utf-8")
    return recommend_site(site).plan


def test_its_engine_is_a_pooling_engine_and_the_others_are_not(plan: Plan) -> None:
    options = {engine.model: engine.vllm_options.model_dump(by_alias=True) for _, engine in plan.engines()}

    assert {"small": None, "vectors": "pooling"} == {name: one["runner"] for name, one in options.items()}
    assert 1024 == options["vectors"]["max-model-len"]


def test_its_whole_window_is_for_what_is_embedded(plan: Plan) -> None:
    vectors = next(model for model in plan.models if model.name == "vectors")

    assert ("embedding", 1024, 0) == (vectors.task, vectors.max_input_tokens, vectors.max_output_tokens)


def test_it_has_the_weights_of_the_decoder_and_a_cache_for_whole_windows(plan: Plan) -> None:
    engines = {engine.model: engine for _, engine in plan.engines()}

    assert engines["small"].memory.weights_bytes == engines["vectors"].memory.weights_bytes
    assert engines["vectors"].kv_cache.tokens >= 2 * 1024


def test_its_relay_proves_its_engines_by_vectors(plan: Plan) -> None:
    assert {"small": "chat", "vectors": "embedding"} == {relay.model: relay.task for relay in plan.gateway.relays}


def test_relays_may_hand_each_worker_of_the_gateway_its_chunks(plan: Plan) -> None:
    assert {(0.05, 1000.0)} == {
        (relay.coalesce_seconds, relay.coalesce_chunks_per_second) for relay in plan.gateway.relays
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"output_tokens": 16}, "states output_tokens: its whole window is for what is embedded"),
        ({"output_cost_per_token": 1e-6}, "it generates no tokens"),
        ({"fallbacks": ["small"]}, "vectors of different models cannot be compared"),
        ({"load": {"users": 2, "prompt_tokens": 8, "output_tokens": 8}}, "say users and replicas"),
    ],
)
def test_what_belongs_to_answers_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        request_of(CHAT, VECTORS | more)


def test_a_chat_model_does_not_fall_back_to_vectors_and_says_how_long_answers_are() -> None:
    with pytest.raises(ValueError, match="which answers with vectors"):
        request_of(CHAT | {"fallbacks": ["vectors"], "fallbacks_may_be_smaller": True}, VECTORS)
    with pytest.raises(ValueError, match="output_tokens is missing"):
        request_of({name: value for name, value in CHAT.items() if name != "output_tokens"})


def test_the_runner_is_the_plans_to_decide(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    request = {"schema_version": 1, "site": "test", "models": [CHAT | {"vllm_options": {"runner": "pooling"}}]}
    (site / "request.yml").write_text(yaml.safe_dump(request), encoding="utf-8")

    with pytest.raises(SizingError, match="sets runner, which the plan decides"):
        recommend_site(site)


def test_a_chat_model_keeps_the_digest_that_it_had_before_there_were_tasks() -> None:
    assert request_of(CHAT).digest() == request_of(CHAT | {"task": "chat"}).digest()
