"""The features that measure_features.py compares, each beside the plain request: by key, by model, by what is left out.

The plain request: a key without limits, one declared server, 200 characters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.processes import Gateway

WORDS = "the quick brown fox jumps over the lazy dog while nobody looks and goes on to the next one "
OWN_CODE = "def find(text, role):\n    return []\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to ask. `without`: of a gateway that lacks something, so that its absence is what is measured."""

    name: str
    model: str = "plain"
    key: str = "plain"
    without: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    same: bool = False
    characters: int = 200

    def body(self, number: int) -> dict[str, Any]:
        """The request. Each is another one, unless it is to be found in the cache."""
        text = f"{'again' if self.same else number} {WORDS * (self.characters // len(WORDS) + 1)}"[: self.characters]
        return {
            "model": self.model, "max_tokens": 4, "messages": [{"role": "user", "content": text}], **self.more,
        }  # fmt: skip


def _less(*hooks: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        settings = config["litellm_settings"]
        wanted = {f"{hook}.instance" for hook in hooks}
        assert wanted <= set(settings["callbacks"])
        settings["callbacks"] = [hook for hook in settings["callbacks"] if hook not in wanted]

    return change


def _no_global_budget(config: dict[str, Any]) -> None:
    del config["litellm_settings"]["max_budget"], config["litellm_settings"]["budget_duration"]


def _no_cache(config: dict[str, Any]) -> None:
    _less("response_cache")(config)
    del config["litellm_settings"]["cache"], config["litellm_settings"]["cache_params"]


def _no_pre_call_checks(config: dict[str, Any]) -> None:
    config["router_settings"]["enable_pre_call_checks"] = False


WITHOUT: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "ledger": ("bill and audit (the identity ledger)", _less("identity_ledger")),
    "fence": ("fence of internal data", _less("data_fence")),
    "tracing": ("tracing, one receiver", _less("trace_export")),
    "guardrails": ("guardrails are declared, none for this key", _less("guardrails")),
    "cache": ("cache is declared, not for this key", _no_cache),
    "parallel": ("parallel requests of the whole gateway", _less("request_limit")),
    "budget": ("budget of the whole gateway", _no_global_budget),
    "checks": ("checks before a call (windows of declared servers, by LiteLLM's estimate)", _no_pre_call_checks),
}
CASES: tuple[Case, ...] = (
    Case(name="plain"),
    Case(name="plain once more (what the numbers are worth)"),
    Case(name="the master key", key="master"),
    Case(name="key with a budget and its period", key="budget"),
    Case(name="key with requests and tokens a minute, parallel requests", key="limits"),
    Case(name="key of a team with budget and limits", key="team"),
    Case(name="key with tags for the bill", key="tags"),
    Case(name="key with an access group", key="group"),
    Case(name="alias of a model", model="gpt-4"),
    Case(name="strategy: shuffle with weights", model="shuffled"),
    Case(name="strategy: least-busy", model="busy"),
    Case(name="strategy: latency", model="quick"),
    Case(name="strategy: usage, rpm and tpm by deployment", model="used"),
    Case(name="strategy: cost", model="cheap"),
    Case(name="routing by tag", model="tagged", more={"tags": ["gold"]}),
    Case(name="declared server of another kind (OpenAI)", model="by-openai"),
    Case(name="internal model behind the fence", model="secret"),
    Case(name="prompt counted by its model's tokenizer", model="own"),
    Case(name="4,000 characters", characters=4_000),
    Case(name="4,000 characters, counted by their model's tokenizer", model="own", characters=4_000),
    Case(name="20,000 characters", characters=20_000),
    Case(name="retry, used", model="retried"),
    Case(name="cooldown, one of two servers left alone", model="cooled"),
    Case(name="fallback, used", model="primary"),
    Case(name="default fallback, used", model="orphan"),
    Case(name="20,000 characters, on to a larger window by the gateway's count", model="own", characters=20_000),
    Case(name="context-window fallback, by the engine's refusal", model="short"),
    Case(name="content-policy fallback, used", model="shy"),
    Case(name="cache: miss", key="cached"),
    Case(name="cache: hit", key="cached", same=True),
    Case(name="guardrail: personal data, in", key="g-in"),
    Case(name="guardrail: personal data, in and out", key="g-both"),
    Case(name="guardrail: words and patterns, in", key="g-words"),
    Case(name="guardrail: prompt injection, in", key="g-injection"),
    Case(name="guardrail: own function, in", key="g-own"),
    *(Case(name=name, without=label) for label, (name, _) in WITHOUT.items()),
)  # fmt: skip


def GUARDRAILS(own: Path) -> list[dict[str, Any]]:  # noqa: N802  (a constant but for its file)
    """One for each key."""
    patient = {"timeout_seconds": 30, "on_failure": "closed"}
    words = [f"codename-{number}" for number in range(100)]
    return [
        {"name": "in", "kind": "personal_data", "directions": ["in"], "keys": ["g-in"], **patient},
        {"name": "both", "kind": "personal_data", "directions": ["in", "out"], "keys": ["g-both"], **patient},
        {"name": "words", "kind": "words", "words": words, "action": "block", "keys": ["g-words"], **patient},
        {"name": "injection", "kind": "injection", "action": "block", "keys": ["g-injection"], **patient},
        {"name": "own", "kind": "custom", "file": str(own), "keys": ["g-own"], **patient},
    ]


def PROVIDERS(ports: dict[str, int]) -> dict[str, Any]:  # noqa: N802  (a constant but for its ports)
    """Servers that answer at once, and those that fail as their names say."""

    def model(name: str, *deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
        window = 60000 if name == "long" else 30000
        return {"name": name, "max_input_tokens": window, "max_output_tokens": 1000, "deployments": [*deployments],
                **more}  # fmt: skip

    def both(what: str, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> Any:
        sides = (("a", first or {}), ("b", second or {}))
        return ({"endpoint": name, "model": f"ok@{what}", **more} for name, more in sides)

    dear, cheap = ({f"{what}_cost_per_token": price for what in ("input", "output")} for price in (1e-5, 1e-6))
    at_a = {name: {"endpoint": "a", "model": f"{how}@{name}"} for name, how in (
        ("plain", "ok"), ("secret", "ok"), ("retried", "flaky"), ("primary", "fails"), ("orphan", "fails"),
        ("short", "too-long"), ("shy", "refuses"), ("backup", "ok"), ("long", "ok"))}  # fmt: skip
    return {
        "endpoints": [
            *({"name": name, "kind": "vllm", "api_base": f"http://127.0.0.1:{ports[name]}/v1", "inside": True,
               "enabled": True} for name in ("a", "b")),
            {"name": "cloud", "kind": "openai", "api_base": f"http://127.0.0.1:{ports['cloud']}/v1", "key": "openai",
             "enabled": True},
        ],
        "models": [
            *(model(name, one, **({"data": "internal"} if name == "secret" else {})) for name, one in at_a.items()),
            model("shuffled", *both("shuffled", {"weight": 3}, {"weight": 1})),
            model("busy", *both("busy")),
            model("quick", *both("quick")),
            model("used", *both("used", {"rpm": 100000, "tpm": 100000000}, {"rpm": 100000, "tpm": 100000000})),
            model("cheap", *both("cheap", dear, cheap)),
            model("tagged", *both("tagged", {"tags": ["gold"]}, {"tags": ["default"]})),
            model("cooled", {"endpoint": "a", "model": "fails@cooled"}, {"endpoint": "b", "model": "ok@cooled"}),
            model("by-openai", {"endpoint": "cloud", "model": "ok@openai"}),
        ],
    }  # fmt: skip


ROUTING: dict[str, Any] = {
    "models": {
        "shuffled": {"strategy": "simple-shuffle"},
        "busy": {"strategy": "least-busy"},
        "quick": {"strategy": "latency-based-routing"},
        "used": {"strategy": "usage-based-routing-v2"},
        "cheap": {"strategy": "cost-based-routing"},
        "retried": {"retries": 1},
        "cooled": {"allowed_fails": 0, "cooldown_seconds": 3000, "retries": 1},
    },
    "fallbacks": {"primary": ["backup"]},
    "default_fallbacks": ["backup"],
    "context_window_fallbacks": {"short": ["long"], "own": ["long"]},
    "content_policy_fallbacks": {"shy": ["backup"]},
    "fallbacks_may_be_smaller": True,
    "access_groups": {"everyday": ["plain", "own"]},
    "aliases": {"gpt-4": "plain"},
}


def keys_of(gateway: Gateway) -> dict[str, str]:
    """By name; who is not here is the master."""
    team = gateway.post("/team/new", {"team_alias": "measured", "max_budget": 10000.0, "budget_duration": "30d",
                                      "rpm_limit": 100000, "tpm_limit": 100000000})  # fmt: skip
    assert team.status == 200, team.body
    limits = {"rpm_limit": 100000, "tpm_limit": 100000000, "max_parallel_requests": 500}
    wishes: dict[str, dict[str, Any]] = {
        "plain": {}, "budget": {"max_budget": 10000.0, "budget_duration": "30d"}, "limits": limits,
        "team": {"team_id": team.json["team_id"]}, "tags": {"metadata": {"appliance": {"tags": ["night", "lab"]}}},
        "group": {"models": ["everyday"]}, **{name: {} for name in ("cached", "g-in", "g-both", "g-words")},
        **{name: {} for name in ("g-injection", "g-own")},
    }  # fmt: skip
    return {name: gateway.make_key(key_alias=name, **wish) for name, wish in wishes.items()}
