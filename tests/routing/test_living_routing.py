"""Routing against the real thing: each strategy and each kind of fallback, and a fence that no byte passes.

One LiteLLM with PostgreSQL and Redis, before endpoints that count. What is shown fails where the thing shown is off.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sizing.providers import provider_catalogue
from tests.access.living_gateway import why_not
from tests.gateway import processes
from tests.prisma_engine.postgres import free_port
from tests.routing.endpoints import endpoint
from tests.routing.living_routes import LivingRoutes, await_it, living_routes

pytestmark = [pytest.mark.lab, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

IN_A_ROW, AT_MOST = 12, 48  # by chance once in 4,096
SECRETS = ("secret-direct", "secret-chain", "secret-default", "secret-window", "secret-policy", "secret-mixed")


def at(endpoint_name: str, model: str = "ok", **more: Any) -> dict[str, Any]:
    return {"endpoint": endpoint_name, "model": model, **more}


def declared(name: str, *deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "max_input_tokens": 3000, "max_output_tokens": 1000, "deployments": [*deployments], **more}


def providers(ports: dict[str, int]) -> dict[str, Any]:
    def address(name: str) -> str:
        return f"http://127.0.0.1:{ports[name]}/v1"

    dear, cheap = ({f"{what}_cost_per_token": price for what in ("input", "output")} for price in (1e-5, 1e-6))
    inside = [("a", "vllm", "a"), ("b", "sglang", "b"), ("tgi", "tgi", "b"), ("ollama", "ollama", "b"),
              ("down", "openai-compatible", "down")]  # fmt: skip
    return {
        "endpoints": [
            *({"name": name, "kind": kind, "api_base": address(port), "inside": True, "enabled": True}
              for name, kind, port in inside),
            {"name": "cloud", "kind": "openai", "api_base": address("cloud"), "key": "openai", "enabled": True},
            {"name": "claude", "kind": "anthropic", "api_base": f"http://127.0.0.1:{ports['b']}", "key": "anthropic",
             "enabled": True},
            {"name": "open", "kind": "openrouter", "api_base": address("b"), "key": "openrouter", "enabled": True},
            {"name": "unused", "kind": "openai", "api_base": address("cloud"), "key": "openai"},
        ],
        "models": [
            declared("shuffled", at("a", weight=999), at("b", weight=1)),
            declared("busy", at("a", "held@busy"), at("b", "ok@busy")),
            declared("quick", at("a", "slow@quick"), at("b", "ok@quick")),
            declared("used", at("a", "wordy@used"), at("b", "ok@used")),
            declared("limited", at("a", "ok@limited", rpm=2), at("b", "ok@limited", rpm=2)),
            declared("cheap", at("a", "ok@cheap", **dear), at("b", "ok@cheap", **cheap)),
            declared("tagged", at("a", "ok@tagged", tags=["gold"]), at("b", "ok@tagged", tags=["default"])),
            declared("retried", at("a", "flaky@retried")),
            declared("cooled", at("a", "fails@cooled"), at("b", "ok@cooled")),
            declared("back-soon", at("a", "fails@back"), at("b", "ok@back")),
            declared("primary", at("a", "fails@primary")),
            declared("orphan", at("a", "fails@orphan")),
            declared("short", at("a", "too-long@short")),
            declared("shy", at("a", "refuses@shy")),
            declared("backup", at("b", "ok@backup")),
            declared("long", at("b", "ok@long"), max_input_tokens=9000),
            declared("bold", at("b", "ok@bold")),
            declared("plain", at("a", "ok@plain")),
            declared("by-sglang", at("b", "ok@kind")),
            declared("by-tgi", at("tgi", "ok@kind")),
            declared("by-ollama", at("ollama", "ok@kind")),
            declared("by-claude", at("claude", "ok@kind")),
            declared("by-openrouter", at("open", "ok@kind")),
            declared("switched-off", at("unused")),
            declared("vectors", at("a", "ok@vectors"), mode="embedding"),
            declared("gpt", at("cloud", "gpt"), max_input_tokens=9000),
            declared("open-direct", at("down")),
            declared("bridge", at("down")),
            declared("secret-window", at("a", "too-long@secret"), data="internal"),
            declared("secret-policy", at("a", "refuses@secret"), data="internal"),
            declared("secret-served", at("a", "ok@secret"), data="internal"),
            *(declared(name, at("down"), data="internal")
              for name in ("secret-direct", "secret-chain", "secret-default", "secret-mixed")),
        ],
    }  # fmt: skip


ROUTING: dict[str, Any] = {
    "models": {
        "shuffled": {"strategy": "simple-shuffle"},
        "busy": {"strategy": "least-busy"},
        "quick": {"strategy": "latency-based-routing"},
        "used": {"strategy": "usage-based-routing-v2"},
        "limited": {"strategy": "usage-based-routing-v2"},
        "cheap": {"strategy": "cost-based-routing"},
        "retried": {"retries": 1},
        "cooled": {"allowed_fails": 0, "cooldown_seconds": 300, "retries": 0},
        "back-soon": {"allowed_fails": 0, "cooldown_seconds": 1, "retries": 0},
    },
    "fallbacks": {"primary": ["backup"]},
    "default_fallbacks": ["backup"],
    "context_window_fallbacks": {"short": ["long"], "own": ["long"]},
    "content_policy_fallbacks": {"shy": ["bold"]},
    "fallbacks_may_be_smaller": True,
    "access_groups": {"everyday": ["plain", "own"]},
    "aliases": {"gpt-4": "plain", "hidden": "secret-direct"},
}


def break_the_rules(config: dict[str, Any]) -> None:
    """What `llm-size check` refuses, put into the configuration behind its back."""
    router = config["router_settings"]
    router["fallbacks"] += [
        {"secret-direct": ["gpt"]}, {"hidden": ["gpt"]}, {"secret-chain": ["bridge"]}, {"bridge": ["gpt"]},
        {"open-direct": ["bridge"]}, {"secret-served": ["gpt"]}, {"secret-served-a": ["gpt"]}, {"own": ["gpt"]},
    ]  # fmt: skip
    router["default_fallbacks"] = ["gpt"]
    router["context_window_fallbacks"] += [{"secret-window": ["gpt"]}]
    router["content_policy_fallbacks"] += [{"secret-policy": ["gpt"]}]
    outside = next(entry for entry in config["model_list"] if entry["model_name"] == "gpt")
    config["model_list"].append(
        {
            "model_name": "secret-mixed",
            "litellm_params": {**outside["litellm_params"], "tags": ["default"]},
            "model_info": {**outside["model_info"], "id": "secret-mixed-cloud", "enable_tag_filtering": True},
        }
    )


def test_every_provider_is_one_that_litellm_knows() -> None:
    try:
        package = next((processes.virtual_environment() / "lib").glob("python3*/site-packages/litellm"))
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    source = (package / "types" / "utils.py").read_text(encoding="utf-8")
    known = set(re.findall(r'^    [A-Z0-9_]+ = "([^"]+)"$', source.split("class LlmProviders(", 1)[1], re.MULTILINE))
    catalogue = provider_catalogue()

    assert set() == {*catalogue.cloud.split(), *catalogue.self_hosted.values()} - known


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingRoutes]:
    directory = tmp_path_factory.mktemp("routing")
    try:
        processes.virtual_environment()
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    with endpoint() as a, endpoint() as b, endpoint() as cloud:
        ports = {"a": a.port, "b": b.port, "cloud": cloud.port, "down": free_port()}
        with living_routes(directory, endpoints={"a": a, "b": b, "cloud": cloud}, providers=providers(ports),
                           routing=ROUTING, change=break_the_rules) as routes:  # fmt: skip
            yield routes


def all_end_at_b(living: LivingRoutes, model: str) -> bool:
    """Whether the strategy settles on endpoint b, once it knows both."""
    b, name, in_a_row = living.endpoints["b"], f"ok@{model}", 0
    for _ in range(AT_MOST):
        before = b.of(name)
        assert living.chat(model).status == 200
        in_a_row = in_a_row + 1 if b.of(name) > before else 0
        if in_a_row == IN_A_ROW:
            return True
    return False


def test_shuffle_follows_the_weights(living: LivingRoutes) -> None:
    for _ in range(20):
        living.chat("shuffled")

    assert living.endpoints["a"].of("ok") >= 18


def test_least_busy_leaves_alone_who_is_at_work(living: LivingRoutes) -> None:
    a, b = living.endpoints["a"], living.endpoints["b"]

    def idle(deployment: str) -> bool:
        return living.redis("GET", f"busy_request_count:busy-{deployment}") in {"", "0"}

    waiting: list[threading.Thread] = []
    while not a.of("held@busy"):
        await_it(lambda: idle("b"), "b has answered")
        waiting.append(threading.Thread(target=living.chat, args=("busy",)))
        answered = b.of("ok@busy")
        waiting[-1].start()
        await_it(lambda seen=answered: a.of("held@busy") or b.of("ok@busy") > seen, "the request arrives")  # type: ignore[misc]
    before = b.of("ok@busy")
    for _ in range(IN_A_ROW):
        await_it(lambda: idle("b"), "b has answered")
        living.chat("busy")
    a.released.set()
    for thread in waiting:
        thread.join()

    assert (1, before + IN_A_ROW) == (a.of("held@busy"), b.of("ok@busy"))


@pytest.mark.parametrize("model", ["quick", "used", "cheap"])
def test_latency_usage_and_cost_find_the_better_endpoint(living: LivingRoutes, model: str) -> None:
    assert all_end_at_b(living, model)


def test_an_endpoint_takes_no_more_requests_a_minute_than_declared(living: LivingRoutes) -> None:
    statuses = [living.chat("limited", disable_fallbacks=True).status for _ in range(12)]

    assert 429 in statuses
    assert all(living.endpoints[name].of("ok@limited") <= 4 for name in ("a", "b"))  # two minutes at most


def test_a_tag_leads_to_its_endpoint_and_no_tag_to_the_default(living: LivingRoutes) -> None:
    a, b = living.endpoints["a"], living.endpoints["b"]

    for _ in range(8):
        living.chat("tagged", metadata={"tags": ["gold"]})
    assert (8, 0) == (a.of("ok@tagged"), b.of("ok@tagged"))
    for _ in range(8):
        living.chat("tagged")
    assert (8, 8) == (a.of("ok@tagged"), b.of("ok@tagged"))


def test_a_key_with_an_access_group_may_call_its_models_and_no_others(living: LivingRoutes) -> None:
    key = living.gateway.make_key(models=["everyday"])

    assert [200, 403] == [living.chat(model, key=key).status for model in ("plain", "backup")]


def test_an_alias_is_another_name(living: LivingRoutes) -> None:
    before = living.endpoints["a"].of("ok@plain")

    assert 200 == living.chat("gpt-4").status
    assert before + 1 == living.endpoints["a"].of("ok@plain")


def test_a_request_is_retried_as_often_as_declared(living: LivingRoutes) -> None:
    a = living.endpoints["a"]

    assert [200, 200] == [living.chat("retried").status for _ in range(2)]
    assert 4 == a.of("flaky@retried")
    assert 500 == living.chat("retried", num_retries=0, disable_fallbacks=True).status
    assert 5 == a.of("flaky@retried")


def test_an_endpoint_that_fails_is_left_alone(living: LivingRoutes) -> None:
    a = living.endpoints["a"]
    for _ in range(AT_MOST):
        living.chat("cooled", disable_fallbacks=True)
        if a.of("fails@cooled"):
            break
    await_it(lambda: living.redis("EXISTS", "deployment:cooled-a:cooldown") == "1", "the cooldown is known")
    before = a.of("fails@cooled")

    assert [200] * IN_A_ROW == [living.chat("cooled", disable_fallbacks=True).status for _ in range(IN_A_ROW)]
    assert before == a.of("fails@cooled")


def test_it_comes_back_after_its_cooldown(living: LivingRoutes) -> None:
    a = living.endpoints["a"]

    def asked_again() -> bool:
        living.chat("back-soon", disable_fallbacks=True)
        return a.of("fails@back") >= 3

    await_it(asked_again, "it is asked again, and again")


@pytest.mark.parametrize(
    ("model", "target", "status_without"),
    [("primary", "backup", 500), ("short", "long", 400), ("shy", "bold", 400)],
)
def test_each_kind_of_fallback_answers_in_the_place_of_another(
    living: LivingRoutes, model: str, target: str, status_without: int
) -> None:
    b = living.endpoints["b"]
    before = b.of(f"ok@{target}")

    refused, asked = living.chat(model, disable_fallbacks=True), b.of(f"ok@{target}")
    answered = living.chat(model)

    assert (status_without, before) == (refused.status, asked)
    assert (200, before + 1) == (answered.status, b.of(f"ok@{target}"))
    assert "1" == answered.headers["x-litellm-attempted-fallbacks"]


def test_a_model_without_fallbacks_has_the_default_ones(living: LivingRoutes) -> None:
    cloud = living.endpoints["cloud"]  # by break_the_rules
    before = cloud.of("gpt")

    assert [500, 200] == [living.chat("orphan", disable_fallbacks=True).status, living.chat("orphan").status]
    assert before + 1 == cloud.of("gpt")


def test_a_prompt_counted_as_too_long_goes_on_to_a_larger_window(living: LivingRoutes) -> None:
    b = living.endpoints["b"]
    before = b.of("ok@long")
    words = [{"role": "user", "content": "word " * 3000}]

    refused, answered = living.chat("own", messages=words, disable_fallbacks=True), living.chat("own", messages=words)

    assert (400, "context_length_exceeded") == (refused.status, refused.json["error"]["code"])
    assert 200 == answered.status, answered.body
    assert before + 1 == b.of("ok@long")


PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
    "/v1/embeddings": {"input": "Hello"},
}


@pytest.mark.parametrize(("path", "stream"), [*((path, False) for path in PATHS), ("/v1/chat/completions", True)])
def test_every_api_is_served_from_a_declared_server(living: LivingRoutes, path: str, stream: bool) -> None:
    model = "vectors" if path.endswith("embeddings") else "plain"

    answer = living.post(path, {"model": model, **PATHS[path], **({"stream": True} if stream else {})})

    assert 200 == answer.status, answer.body
    assert ("-0.5" if path.endswith("embeddings") else "Hello") in answer.body


@pytest.mark.parametrize("kind", ["sglang", "tgi", "ollama", "claude", "openrouter"])
def test_every_kind_of_server_is_asked_in_its_own_words(living: LivingRoutes, kind: str) -> None:
    answer = living.chat(f"by-{kind}", disable_fallbacks=True)

    assert 200 == answer.status, answer.body
    assert "Hello" in answer.body


def test_the_list_of_models_has_what_is_on_and_not_what_is_off(living: LivingRoutes) -> None:
    listed = processes.ask(f"{living.gateway.address}/v1/models").json["data"]

    names = {model["id"] for model in listed}
    assert {"own", "plain", "vectors", "gpt"} <= names
    assert "switched-off" not in names


def ways_out(living: LivingRoutes) -> dict[str, Callable[[], processes.Answer]]:
    """Everything that could carry a request for an internal model to a cloud; its own engine is down or refuses."""
    key = living.gateway.make_key(models=["secret-served", "gpt"], model_rpm_limit={"secret-served": 1})
    ways: dict[str, Callable[[], processes.Answer]] = {name: lambda name=name: living.chat(name) for name in SECRETS}  # type: ignore[misc]
    ways |= {
        "our own engine": lambda: living.chat("own"),
        "streamed": lambda: living.chat("secret-direct", stream=True),
        "an alias": lambda: living.chat("hidden"),
        "the id of a deployment": lambda: living.chat("secret-default-down"),
        "a tag": lambda: living.chat("secret-mixed", metadata={"tags": ["default"]}),
        "the client's own fallback": lambda: living.chat("secret-default", fallbacks=["gpt"]),
        "the client's own fallback, another form": lambda: living.chat("secret-default", fallbacks=[{"model": "gpt"}]),
        "the client's own fallback for long prompts": lambda: living.chat(
            "secret-window", context_window_fallbacks=[{"secret-window": ["gpt"]}]
        ),
        "two models at once": lambda: living.chat("secret-direct,gpt"),
        "a rate limit of the key": lambda: [living.chat("secret-served", key=key) for _ in range(3)][-1],
    }
    for path, body in PATHS.items():
        ways[path] = lambda path=path, body=body: living.post(path, {"model": "secret-direct", **body})  # type: ignore[misc]
    return ways


def test_no_byte_of_an_internal_request_leaves_and_any_other_would(living: LivingRoutes) -> None:
    cloud = living.endpoints["cloud"]

    before, answers, left = cloud.connections, {}, {}
    for way, go in ways_out(living).items():
        answers[way] = go().status
        if cloud.connections > before:
            left[way], before = (answers[way], dict(cloud.asked)), cloud.connections

    assert {} == left
    assert {} == {way: status for way, status in answers.items() if status < 400}
    # The same ways, from models that are not internal: the cloud is there, and the configuration leads to it.
    asked = cloud.of("gpt")
    key = living.gateway.make_key(models=["plain", "gpt"], model_rpm_limit={"plain": 1})
    others = [
        living.chat("open-direct"),
        living.chat("orphan"),
        living.chat("primary", fallbacks=["gpt"]),
        *(living.chat("plain", key=key) for _ in range(3)),
    ]
    assert [200] * 6 == [answer.status for answer in others]
    assert asked + 4 <= cloud.of("gpt")
