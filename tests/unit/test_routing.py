"""Providers, routing and fallbacks: what is declared must hold together, and everything else is one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sizing.documents import read_structured_file
from sizing.errors import DocumentError
from sizing.fallbacks import Fallbacks, Routed, check_fallbacks
from sizing.gateway_routes import GatewayRoutes, gateway_routes, served_names
from sizing.providers import Providers, provider_catalogue
from sizing.request import Request
from sizing.routing import Routing
from sizing.site import load_plan
from tests.command_line import llm_size
from tests.unit.test_cli_site import make_site

LAB = {"name": "lab", "kind": "vllm", "api_base": "http://10.0.0.50:8000/v1", "inside": True, "enabled": True}
CLOUD = {"name": "cloud", "kind": "openai", "key": "openai", "enabled": True}
ASK_LAB = {"endpoint": "lab", "model": "Qwen/Qwen3-32B", "weight": 3, "rpm": 600, "tags": ["gold"]}
ASK_CLOUD = {"endpoint": "cloud", "model": "gpt-5", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}


def model(name: str, *deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "max_input_tokens": 30000, "max_output_tokens": 2768, "deployments": deployments, **more}


def providers(**changes: Any) -> Providers:
    content = {
        "endpoints": [LAB, CLOUD],
        "models": [model("lab-chat", ASK_LAB, ASK_LAB | {"tags": []}), model("gpt", ASK_CLOUD)],
        **changes,
    }
    return Providers.parse(content, origin="providers.yml")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models `small` and `large` of our own; 2,048 and 4,096 tokens."""
    site = make_site(tmp_path_factory.mktemp("planned"))
    (site / "request.yml").write_text(
        """
schema_version: 1
site: test
models:
  - {name: small, source: Qwen/Qwen3-0.6B, context_tokens: 2048, output_tokens: 512, users: 4, data: internal}
  - {name: large, source: Qwen/Qwen3-0.6B, context_tokens: 4096, output_tokens: 512, users: 4}
""",
        encoding="utf-8",
    )
    answer = llm_size("recommend", "--site", str(site), "--write")
    assert 0 == answer.returncode, answer.stderr
    return site


def routes(site: Path, declared: Providers, **routing: Any) -> GatewayRoutes:
    request = Request.load(site / "request.yml")
    return gateway_routes(request, load_plan(site), declared, Routing.parse(routing, origin="routing.yml"))


def test_a_site_that_declares_nothing_gets_only_what_its_request_says(planned: Path) -> None:
    found = routes(planned, Providers())

    assert ((), (), {}) == (found.deployments, found.fallbacks, found.secrets)
    assert ("small", "small-relay") == found.fence.internal
    assert ("small-relay", "large-relay") == found.fence.inside
    assert found.all_inside


def test_a_declared_model_becomes_one_entry_for_each_endpoint_that_is_on(planned: Path) -> None:
    found = routes(planned, providers(), access_groups={"others": ["lab-chat", "large"]})

    first, second, cloud = found.deployments
    assert {
        "model": "hosted_vllm/Qwen/Qwen3-32B",
        "api_base": "http://10.0.0.50:8000/v1",
        "api_key": "none",
        "weight": 3,
        "rpm": 600,
        "tags": ("gold",),
    } == first.litellm_params
    assert ("lab-chat-lab-0", "lab-chat-lab-1", "gpt-cloud") == (first.id, second.id, cloud.id)
    assert ("others",) == first.model_info["access_groups"]
    assert {"large": ("others",)} == found.access_groups
    assert {
        "model": "openai/gpt-5",
        "api_key": "os.environ/PROVIDER_KEY_OPENAI",
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 4e-6,
    } == cloud.litellm_params
    assert {"PROVIDER_KEY_OPENAI": "openai"} == found.secrets
    assert not found.all_inside
    assert ("small-relay", "large-relay", "lab-chat-lab-0", "lab-chat-lab-1") == found.fence.inside


def test_the_page_for_people_is_told_of_declared_models_by_their_dearest_endpoint(planned: Path) -> None:
    mixed = model("mixed", ASK_LAB, ASK_CLOUD | {"input_cost_per_token": None, "output_cost_per_token": None})
    dear = model("dear", ASK_LAB, ASK_CLOUD)
    found = routes(planned, providers(models=[model("lab-chat", ASK_LAB), mixed, dear]))

    assert [
        ("lab-chat", 30000, 2768, 0.0, 0.0, True),
        ("mixed", 30000, 2768, None, None, False),
        ("dear", 30000, 2768, 1e-6, 4e-6, False),
    ] == [
        (one.name, one.max_input_tokens, one.max_output_tokens, one.input_cost_per_token, one.output_cost_per_token,
         one.inside)
        for one in found.listed
    ]  # fmt: skip
    assert () == routes(planned, Providers()).listed


def test_endpoints_are_off_until_somebody_switches_them_on(planned: Path) -> None:
    endpoints = [LAB, {name: value for name, value in CLOUD.items() if name != "enabled"}]

    found = routes(planned, providers(endpoints=endpoints), models={"gpt": {"retries": 1}})

    assert ["lab-chat", "lab-chat"] == [entry.model_name for entry in found.deployments]
    assert ({}, {}) == (found.secrets, found.retries)


def test_an_alias_has_the_fallbacks_and_the_fence_of_its_model(planned: Path) -> None:
    found = routes(planned, providers(), aliases={"tiny": "small"}, fallbacks={"small": ["large"]})

    assert ({"small": ("large",)}, {"tiny": ("large",)}) == found.fallbacks
    assert ("small", "tiny", "small-relay") == found.fence.internal
    assert {"small", "large", "tiny", "gpt", "lab-chat"} == served_names(
        Request.load(planned / "request.yml"), providers(), Routing(aliases={"tiny": "small"})
    )


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        (
            {"fallbacks": {"small": ["gpt"]}},
            "small is marked data: internal and would leave the premises: small -> gpt",
        ),
        (
            {"fallbacks": {"small": ["large"], "large": ["gpt"]}},
            "small -> large (fallbacks) -> gpt (fallbacks); take one of these steps away",
        ),
        (
            {"default_fallbacks": ["gpt"]},
            "small -> gpt (default_fallbacks); give small fallbacks of its own ([] for none)",
        ),
        ({"fallbacks": {"small": ["large"]}, "default_fallbacks": ["gpt"]}, "give large fallbacks of its own"),
        ({"context_window_fallbacks": {"small": ["gpt"]}}, "small -> gpt (context_window_fallbacks)"),
        ({"content_policy_fallbacks": {"small": ["gpt"]}}, "small -> gpt (content_policy_fallbacks)"),
        (
            {"context_window_fallbacks": {"small": ["large"]}, "content_policy_fallbacks": {"large": ["gpt"]}},
            "small -> large (context_window_fallbacks) -> gpt (content_policy_fallbacks)",
        ),
    ],
)
def test_no_way_leads_from_an_internal_model_out_of_the_premises(
    planned: Path, routing: dict[str, Any], words: str
) -> None:
    with pytest.raises(DocumentError, match="leave the premises") as refused:
        routes(planned, providers(), **routing)

    assert words in str(refused.value)


def test_nothing_stands_in_for_embeddings(planned: Path) -> None:
    declared = providers(models=[model("vectors", ASK_LAB, mode="embedding"), model("gpt", ASK_CLOUD)])

    found = routes(planned, declared, default_fallbacks=["gpt"], fallbacks={"small": []})

    assert ({"vectors": ()}, {"small": ()}) == found.fallbacks
    with pytest.raises(DocumentError, match=r"fallbacks of vectors \(embedding\) name gpt, which is for chat"):
        routes(planned, declared, fallbacks={"vectors": ["gpt"]})


def test_an_internal_model_may_say_that_it_has_no_fallbacks(planned: Path) -> None:
    found = routes(planned, providers(), default_fallbacks=["gpt"], fallbacks={"small": []})

    assert ({"small": ()},) == found.fallbacks


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        ({"fallbacks": {"large": ["gpt"], "gpt": ["large"]}}, "fallbacks go in a circle: large -> gpt -> large"),
        ({"fallbacks": {"gpt": ["gpt"]}}, "fallbacks go in a circle: gpt -> gpt"),
        ({"fallbacks": {"gpt": ["large"]}}, "gpt (window 32768) name large, whose window 4096 is smaller"),
        ({"default_fallbacks": ["large"]}, "window 4096 is smaller"),
        ({"context_window_fallbacks": {"gpt": ["large"]}}, "whose window 4096 is not larger"),
        ({"fallbacks": {"gpt": ["nobody"]}}, "fallbacks of gpt name nobody, which is not served; there are gpt, "),
        ({"fallbacks": {"nobody": ["gpt"]}}, "fallbacks are declared for nobody, which is not served"),
        ({"default_fallbacks": ["nobody"]}, "default_fallbacks name nobody"),
        ({"models": {"large": {"strategy": "least-busy"}}}, "models.large is one of the site's own"),
        ({"models": {"nobody": {"retries": 1}}}, "models.nobody is a model which is not served"),
        ({"access_groups": {"gpt": ["large"]}}, "access group gpt has the name of a model"),
        ({"access_groups": {"g": ["nobody"]}}, "access group g has model nobody, which is not served"),
        (
            {"models": {"lab-chat": {"strategy": "cost-based-routing"}}},
            "cost-based-routing of lab-chat needs its prices",
        ),
        ({"aliases": {"gpt": "large"}}, "alias gpt is the name of a model"),
        ({"aliases": {"x": "nobody"}}, "alias x stands for nobody, which is not served"),
        ({"aliases": {"x": "large", "y": "x"}}, "alias y stands for x, which is not served"),
    ],
)
def test_what_does_not_hold_together_is_refused_in_one_line(planned: Path, routing: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        routes(planned, providers(), **routing)

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"endpoints": [LAB, CLOUD | {"kind": "opnai"}]},
            "cloud: unknown provider opnai; did you mean openai?",
        ),
        ({"endpoints": [LAB, LAB], "models": []}, "endpoint lab is declared 2 times"),
        ({"models": [model("gpt", ASK_CLOUD)] * 2}, "model gpt is declared 2 times"),
        ({"models": [model("gpt", ASK_CLOUD | {"input_cost_per_token": -1e-6})]}, "greater than or equal to 0"),
        ({"models": [model("gpt", {"endpoint": "cloud", "model": "x", "output_cost_per_token": 1})]}, "both prices"),
        ({"models": [model("gpt", ASK_CLOUD | {"endpoint": "moon"})]}, "at endpoint moon, which is not declared"),
        ({"models": [model("gpt", ASK_CLOUD, data="internal")]}, "endpoint cloud does not stand inside"),
        ({"endpoints": [LAB, CLOUD | {"inside": True}]}, "openai is a cloud and cannot stand inside"),
        ({"endpoints": [LAB | {"api_base": "http://8.8.8.8/v1"}, CLOUD]}, "8.8.8.8 is a public address"),
        ({"endpoints": [LAB | {"api_base": "http://a:b@10.0.0.5/v1"}, CLOUD]}, "api_base holds a password"),
        ({"endpoints": [LAB | {"api_base": None}, CLOUD]}, "set api_base"),
        (
            {"endpoints": [LAB, {"name": "cloud", "kind": "openai"}]},
            "openai needs key, the name of a value",
        ),
        ({"endpoints": [LAB, CLOUD | {"kind": "bedrock"}]}, "bedrock needs secrets.aws_access_key_id"),
        ({"endpoints": [LAB, CLOUD | {"settings": {"api_key": "x"}}]}, "unknown setting api_key"),
        ({"endpoints": [LAB, CLOUD | {"key": "sk-abcdefghijklmnop"}]}, "endpoints.1.key"),
        ({"endpoints": [LAB, CLOUD | {"settings": {"organization": "sk-abcdefghijklmnop"}}]}, "looks like a key"),
        ({"endpoints": [LAB | {"name": "my-relay"}, CLOUD]}, "names that end with relay"),
        ({"endpoints": [LAB, CLOUD | {"weight": 1}]}, "endpoints.1.weight: Extra inputs are not permitted"),
        ({"models": [model("gpt", ASK_CLOUD | {"model": "{{ x }}"})]}, "is a template"),
    ],
)
def test_endpoints_and_models_that_cannot_be_are_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        providers(**changes)

    assert words in str(refused.value)


def test_a_name_of_our_own_models_cannot_be_declared_again(planned: Path) -> None:
    with pytest.raises(DocumentError, match=r"model large is one of the site's own \(request.yml\)"):
        routes(planned, providers(models=[model("large", ASK_CLOUD)]))


def test_a_fallback_to_what_is_switched_off_is_refused(planned: Path) -> None:
    with pytest.raises(DocumentError, match="whose endpoints are switched off; enable one or drop it"):
        routes(planned, providers(endpoints=[LAB, CLOUD | {"enabled": False}]), fallbacks={"large": ["gpt"]})


def test_a_key_that_the_vault_does_not_hold_is_named() -> None:
    with pytest.raises(DocumentError, match="endpoint cloud needs key openai, which is not in vault_provider_keys"):
        providers().check_keys({"anthropic"})
    providers().check_keys({"openai"})
    providers(endpoints=[LAB, CLOUD | {"enabled": False}]).check_keys(())


def test_fallbacks_in_the_request_are_judged_as_well() -> None:
    def request(**more: Any) -> Request:
        large = {"name": "large", "source": "x", "context_tokens": 4096, "output_tokens": 512, "fallbacks": ["small"]}
        small = {"name": "small", "source": "x", "context_tokens": 2048, "output_tokens": 512}
        return Request.parse({"site": "test", "models": [large | more, small]}, origin="request.yml")

    with pytest.raises(DocumentError, match=r"falls back to small, whose window 2048 is smaller"):
        request()
    assert ("small",) == request(fallbacks_may_be_smaller=True).models[0].fallbacks
    circle = [
        {"name": a, "source": "x", "context_tokens": 4096, "output_tokens": 512, "fallbacks": [b]}
        for a, b in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    with pytest.raises(DocumentError, match="fallbacks go in a circle: a -> b -> c -> a"):
        Request.parse({"site": "test", "models": circle}, origin="request.yml")


def test_many_fallbacks_are_judged_in_no_time() -> None:
    names = [f"m{number}" for number in range(200)]
    models = {name: Routed(name=name, window_tokens=1, internal=True, inside=True) for name in names}

    check_fallbacks(Fallbacks(default=tuple(names)), models)


def test_a_key_that_stands_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routing.yml"
    path.write_text("routing:\n  aliases: {gpt: small, gpt: large}\n", encoding="utf-8")

    with pytest.raises(DocumentError, match="gpt stands here twice; keep one"):
        read_structured_file(path)


def test_every_kind_that_needs_more_than_a_key_is_a_cloud() -> None:
    catalogue = provider_catalogue()

    assert set() == set(catalogue.needs) - set(catalogue.cloud.split())
    assert set() == set(catalogue.self_hosted) & set(catalogue.cloud.split())


def test_check_refuses_and_routing_shows(planned: Path, tmp_path: Path) -> None:
    site = Path(shutil.copytree(planned, tmp_path / "site"))
    everything = site / "group_vars" / "all"
    content = {"endpoints": [LAB, CLOUD], "models": [model("lab-chat", ASK_LAB), model("gpt", ASK_CLOUD)]}
    (everything / "providers.yml").write_text(yaml.safe_dump(json.loads(json.dumps({"providers": content}))), "utf-8")
    (everything / "routing.yml").write_text("routing: {fallbacks: {large: [lab-chat]}}\n", "utf-8")

    refused = llm_size("check", str(site))
    (everything / "vault.yml").write_text("vault_provider_keys: {openai: a-key-of-this-test}\n", "utf-8")
    accepted, shown = llm_size("check", str(site)), llm_size("routing", str(site))

    assert 2 == refused.returncode
    assert "needs key openai, which is not in vault_provider_keys of the vault" in refused.stderr
    assert 1 == len(refused.stderr.strip().splitlines())
    assert (0, "; 2 further models are declared\n") == (accepted.returncode, accepted.stdout[-32:])
    assert "cloud (outside)" in shown.stdout
    assert "a-key-of-this-test" not in shown.stdout + accepted.stdout
