"""What the gateway role writes: a configuration its own validator accepts, and secrets that survive their quoting."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NASTY = "p@ss/w:rd%20#'\"$x\\`+ ?"

VARIABLES: dict[str, Any] = {
    "gateway_models": [
        {
            "name": "qwen",
            "model_directory": "tiny-qwen3",
            "max_input_tokens": 1536,
            "max_output_tokens": 512,
            "input_cost_per_token": 0.00000015,
            "output_cost_per_token": 0.0000006,
            "fallbacks": ["gemma"],
        },
        {
            "name": "gemma",
            "model_directory": "tiny-gemma3",
            "max_input_tokens": 768,
            "max_output_tokens": 256,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "fallbacks": [],
        },
    ],
    "gateway_deployments": [
        {"model": "qwen", "id": "qwen-a", "api_base": "http://10.77.0.12:8000/v1", "served_model_name": "tiny-qwen3"},
        {
            "model": "gemma",
            "id": "gemma-a",
            "api_base": "http://10.77.0.13:8001/v1",
            "served_model_name": "tiny-gemma3",
        },
        {"model": "qwen", "id": "qwen-b", "api_base": "http://10.77.0.13:8000/v1", "served_model_name": "tiny-qwen3"},
    ],
    "gateway_router": {
        "strategy": "simple-shuffle",
        "num_retries": 2,
        "retry_after_seconds": 0,
        "timeout_seconds": 600,
        "stream_timeout_seconds": 60,
        "allowed_fails": 1,
        "cooldown_seconds": 10,
    },
    "gateway_database_host": "10.77.0.11",
    "gateway_database_password": NASTY,
    "gateway_redis_host": "10.77.0.11",
    "gateway_redis_password": NASTY,
    "gateway_master_key": "sk-" + NASTY,
    "gateway_salt_key": NASTY,
    "gateway_engine_api_key": NASTY,
}


def render(directory: Path, **changes: Any) -> Path:
    variables = directory / "variables.json"
    variables.write_text(json.dumps({**VARIABLES, **changes, "output_directory": str(directory)}))
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", f"@{variables}"),
            str(ROOT / "tests" / "ansible" / "gateway_templates.yml"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(directory / "none.cfg"), "ANSIBLE_LOCAL_TEMP": str(directory / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == completed.returncode, completed.stdout + completed.stderr
    return directory


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("gateway"))


def faults(path: Path) -> list[str]:
    for name in ("config_shapes", "validate_config"):  # the second imports the first
        file = ROOT / "roles" / "gateway" / "files" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    found: list[str] = module.faults(yaml.safe_load(path.read_text(encoding="utf-8")))
    return found


def systemd_reads(path: Path) -> dict[str, str]:
    """An environment file as systemd.exec(5) reads it: in double quotes a backslash frees the next character."""
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, raw = line.partition("=")
        if raw.startswith('"'):
            raw, escaped = "", raw[1:-1]
            characters = iter(escaped)
            for character in characters:
                raw += next(characters) if character == "\\" else character
        values[name] = raw
    return values


def test_the_configuration_passes_its_own_validator(rendered: Path) -> None:
    assert [] == faults(rendered / "config.yaml")


def test_prices_and_windows_arrive_as_numbers(rendered: Path) -> None:
    config = yaml.safe_load((rendered / "config.yaml").read_text())

    assert ["qwen-a", "qwen-b", "gemma-a"] == [one["model_info"]["id"] for one in config["model_list"]]
    assert 0.00000015 == config["model_list"][0]["model_info"]["input_cost_per_token"]
    assert 1536 == config["model_list"][0]["model_info"]["max_input_tokens"]
    assert [{"qwen": ["gemma"]}] == config["router_settings"]["fallbacks"]


def test_a_site_without_fallbacks_has_an_empty_list(tmp_path: Path) -> None:
    render(tmp_path, gateway_models=[VARIABLES["gateway_models"][1]])

    assert [] == faults(tmp_path / "config.yaml")
    assert [] == yaml.safe_load((tmp_path / "config.yaml").read_text())["router_settings"]["fallbacks"]


ROUTES: dict[str, Any] = {
    "deployments": [
        {
            "model_name": "gpt",
            "litellm_params": {"model": "openai/gpt-5", "api_key": "os.environ/PROVIDER_KEY_OPENAI", "tags": ["gold"]},
            "model_info": {
                "id": "gpt-cloud",
                "mode": "chat",
                "input_cost_per_token": 1e-06,
                "output_cost_per_token": 0.000004,
            },
        }
    ],
    "routing_groups": [{"group_name": "gpt", "models": ["gpt"], "routing_strategy": "least-busy"}],
    "retries": {"gpt": 3},
    "tags_match_any": True,
    "fallbacks": [{"gemma": ["qwen"]}, {"qwen": []}],
    "default_fallbacks": ["gpt"],
    "context_window_fallbacks": [{"gemma": ["qwen"]}],
    "content_policy_fallbacks": [],
    "aliases": {"little": "gemma"},
    "access_groups": {"qwen": ["everyday"]},
    "secrets": {"PROVIDER_KEY_OPENAI": "openai"},
    "fence": {"internal": ["qwen", "qwen-a"], "inside": ["qwen-a", "gemma-a", "qwen-b"]},
}


def test_what_is_declared_beside_the_own_models_arrives_whole(tmp_path: Path) -> None:
    render(tmp_path, gateway_routes=ROUTES, gateway_provider_keys={"openai": NASTY})

    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    router, declared = config["router_settings"], config["model_list"][-1]
    assert [] == faults(tmp_path / "config.yaml")
    assert (1e-06, 0.000004) == tuple(declared["model_info"][f"{what}_cost_per_token"] for what in ("input", "output"))
    assert ["everyday"] == config["model_list"][0]["model_info"]["access_groups"]
    assert [{"gemma": ["qwen"]}, {"qwen": []}] == router["fallbacks"]
    assert ["gpt"] == router["default_fallbacks"]
    assert 3 == router["model_group_retry_policy"]["gpt"]["TimeoutErrorRetries"]
    assert {"little": "gemma"} == router["model_group_alias"]
    assert "data_fence.instance" in config["litellm_settings"]["callbacks"]
    assert ROUTES["fence"] == json.loads((tmp_path / "data_fence.json").read_text())
    assert NASTY == systemd_reads(tmp_path / "litellm.env")["PROVIDER_KEY_OPENAI"]
    assert "p@ss" not in (tmp_path / "config.yaml").read_text()
    models = json.loads((tmp_path / "token_window.json").read_text())["models"]
    assert ["gemma-a", "little"] == models["gemma"]["deployments"]


def test_a_relay_keeps_its_word_under_an_alias_too(tmp_path: Path) -> None:
    deployments = [{**VARIABLES["gateway_deployments"][1], "id": "gemma-relay"}]

    render(
        tmp_path,
        gateway_models=[VARIABLES["gateway_models"][1]],
        gateway_deployments=deployments,
        gateway_routes={"aliases": {"little": "gemma"}, "fallbacks": [], "default_fallbacks": [],
                        "context_window_fallbacks": [], "content_policy_fallbacks": [], "routing_groups": [],
                        "tags_match_any": True},
    )  # fmt: skip

    router = yaml.safe_load((tmp_path / "config.yaml").read_text())["router_settings"]
    assert ["gemma", "little"] == list(router["model_group_retry_policy"])
    assert [] == faults(tmp_path / "config.yaml")


def test_a_budget_of_the_whole_gateway_stands_in_the_configuration_only_where_there_is_one(
    rendered: Path, tmp_path: Path
) -> None:
    render(tmp_path, gateway_budget=250.5, gateway_budget_period="1mo")

    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())["litellm_settings"]
    assert (250.5, "1mo") == (settings["max_budget"], settings["budget_duration"])
    assert [] == faults(tmp_path / "config.yaml")
    assert "max_budget" not in (rendered / "config.yaml").read_text()


def test_parallel_requests_of_the_whole_gateway_are_limited_only_where_it_is_asked(
    rendered: Path, tmp_path: Path
) -> None:
    render(tmp_path, gateway_parallel_requests=200)

    assert (
        "request_limit.instance"
        in yaml.safe_load((tmp_path / "config.yaml").read_text())["litellm_settings"]["callbacks"]
    )
    assert "Environment=GATEWAY_PARALLEL_REQUESTS=200\n" in (tmp_path / "litellm.service").read_text()
    assert [] == faults(tmp_path / "config.yaml")
    assert "request_limit" not in (rendered / "config.yaml").read_text()


def test_no_secret_stands_outside_the_environment_file(rendered: Path) -> None:
    for name in ("config.yaml", "token_window.json", "litellm.service"):
        assert "p@ss" not in (rendered / name).read_text()


def test_secrets_survive_the_quoting_of_the_environment_file(rendered: Path) -> None:
    environment = systemd_reads(rendered / "litellm.env")

    assert "sk-" + NASTY == environment["LITELLM_MASTER_KEY"]
    assert NASTY == environment["REDIS_PASSWORD"]
    assert NASTY == environment["VLLM_API_KEY"]


def test_the_dashboard_has_a_login_of_its_own_where_the_vault_has_one(rendered: Path, tmp_path: Path) -> None:
    render(tmp_path, gateway_dashboard_password=NASTY)

    environment = systemd_reads(tmp_path / "litellm.env")
    assert ("admin", NASTY) == (environment["UI_USERNAME"], environment["UI_PASSWORD"])
    assert "UI_PASSWORD" not in systemd_reads(rendered / "litellm.env")


def test_the_database_password_survives_its_url(rendered: Path) -> None:
    url = urlsplit(systemd_reads(rendered / "litellm.env")["DATABASE_URL"])

    assert ("litellm", "10.77.0.11", 5432, "/litellm") == (url.username, url.hostname, url.port, url.path)
    assert NASTY == unquote(url.password or "")


def test_the_hook_knows_every_model_by_name_and_by_deployment(rendered: Path) -> None:
    models = json.loads((rendered / "token_window.json").read_text())["models"]

    assert {
        "max_input_tokens": 1536,
        "max_output_tokens": 512,
        "tokenizer_directory": "/var/lib/litellm/tokenizers/tiny-qwen3",
        "deployments": ["qwen-a", "qwen-b"],
        "task": "chat",
    } == models["qwen"]
    assert ["gemma-a"] == models["gemma"]["deployments"]


def test_the_memory_bound_grows_with_the_workers(tmp_path: Path) -> None:
    render(tmp_path, gateway_workers=3, gateway_worker_memory_max_bytes=1000)

    assert "\nMemoryMax=3000\n" in (tmp_path / "litellm.service").read_text()


def test_a_number_given_as_text_is_still_a_number(tmp_path: Path) -> None:
    render(tmp_path, gateway_workers="2", gateway_worker_memory_max_bytes="1000")

    assert "\nMemoryMax=2000\n" in (tmp_path / "litellm.service").read_text()


def test_with_edges_only_they_the_host_itself_and_declared_networks_may_open_connections(tmp_path: Path) -> None:
    render(
        tmp_path,
        gateway_edge_addresses=["10.77.0.13", "10.77.0.12"],
        gateway_client_networks=["192.0.2.0/24", "2001:db8::/32"],
    )
    rules = [line.strip() for line in (tmp_path / "port.nft").read_text().splitlines()]
    unit = (tmp_path / "litellm.service").read_text()

    assert [
        "tcp dport != 4000 accept",
        'iif "lo" accept',
        "tcp flags & (syn | ack) != syn accept",
        "ip saddr { 10.77.0.12, 10.77.0.13, 192.0.2.0/24 } accept",
        "ip6 saddr { 2001:db8::/32 } accept",
        "reject with tcp reset",
    ] == rules[rules.index("tcp dport != 4000 accept") : -2]
    assert unit.index("ExecStartPre=+/usr/sbin/nft --file /etc/litellm/port.nft") < unit.index("ExecStart=")


def test_without_edges_the_port_is_open_and_no_rule_is_loaded(rendered: Path) -> None:
    assert "nft" not in (rendered / "litellm.service").read_text()


def test_the_page_for_people_names_every_model_with_window_and_price(rendered: Path) -> None:
    page = (rendered / "front_page.html").read_text(encoding="utf-8")

    assert '<tr data-model="qwen"><td><code>qwen</code>' in page
    assert "<td>1,536</td><td>512</td>" in page
    assert '<td class="wide">0.1500</td><td class="wide">0.6000</td>' in page
    assert page.count('lang="ko"') == page.count('lang="en"') - 1  # the document's own
    assert "http://" not in page.replace("http://127.0.0.1:4000/v1", "")  # nothing from elsewhere
    assert "https://" not in page


def test_what_operators_write_is_text_on_the_page_and_no_markup(tmp_path: Path) -> None:
    directory = render(tmp_path, gateway_front_page_title="<script>alert(1)</script>", gateway_front_page_contact="<b>")

    page = (directory / "front_page.html").read_text(encoding="utf-8")

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>" not in page


def test_a_models_status_is_asked_from_what_serves_it(rendered: Path) -> None:
    assert {
        "qwen": ["http://10.77.0.12:8000/health", "http://10.77.0.13:8000/health"],
        "gemma": ["http://10.77.0.13:8001/health"],
    } == json.loads((rendered / "front_page.json").read_text())


def test_a_site_without_a_cache_of_answers_shares_none(rendered: Path) -> None:
    assert {"ttl_seconds": 600, "share": "key", "keys": [], "per_request": True} == json.loads(
        (rendered / "response_cache.json").read_text()
    )


def test_a_site_without_receivers_of_traces_tells_nobody(rendered: Path) -> None:
    settings = yaml.safe_load((rendered / "config.yaml").read_text())["litellm_settings"]

    assert [] == json.loads((rendered / "tracing.json").read_text())["receivers"]
    assert "trace_export.instance" not in settings["callbacks"]
    assert settings["turn_off_message_logging"] is True
    assert "TRACING_KEY" not in (rendered / "litellm.env").read_text()
    assert "stays on them" in (rendered / "front_page.html").read_text()


def test_receivers_of_traces_arrive_with_their_keys_in_the_environment_alone(tmp_path: Path) -> None:
    langfuse = {"name": "l", "kind": "langfuse", "url": "https://l", "key": "lf", "content": True}
    collector = {"name": "c", "kind": "opentelemetry", "url": "http://c", "headers": {"x-key": "col"}, "inside": True}
    directory = render(
        tmp_path, gateway_tracing={"receivers": [langfuse, collector]}, gateway_tracing_keys={"lf": NASTY, "col": "c:1"}
    )

    assert [] == faults(directory / "config.yaml")
    settings = yaml.safe_load((directory / "config.yaml").read_text())["litellm_settings"]
    assert "trace_export.instance" == settings["callbacks"][-1]
    assert settings["turn_off_message_logging"] is False
    told = json.loads((directory / "tracing.json").read_text())
    assert [("TRACING_KEY_LF", {}, False, True), (None, {"x-key": "TRACING_KEY_COL"}, True, False)] == [
        (one["key"], one["headers"], one["inside"], one["content"]) for one in told["receivers"]
    ]
    environment = systemd_reads(directory / "litellm.env")
    assert (NASTY, "c:1") == (environment["TRACING_KEY_LF"], environment["TRACING_KEY_COL"])
    assert NASTY not in (directory / "tracing.json").read_text()
    assert "stays on them" not in (directory / "front_page.html").read_text()
