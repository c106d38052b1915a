"""recommend --site, check and explain: a plan is shown before it is written, and what is wrong with it is one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import llm_size

INVENTORY = """
all:
  hosts:
    h1: {ansible_host: 192.0.2.1}
    h2: {ansible_host: 192.0.2.2}
  children:
    gateway: {hosts: {h1: {}}}
    postgres: {hosts: {h1: {}}}
    redis: {hosts: {h1: {}}}
    engines: {hosts: {h2: {}}}
"""

REQUEST = """
schema_version: 1
site: test
models:
  - {name: small, source: Qwen/Qwen3-0.6B, context_tokens: 2048, output_tokens: 512, users: 4}
"""

HARDWARE = {
    "schema_version": 1,
    "host": "h2",
    "accelerator": "cpu",
    "cpu": {"model": "AMD EPYC", "architecture": "x86_64", "cores": [0, 1], "flags": []},
    "memory_total_bytes": 16 * 1024**3,
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return make_site(tmp_path)


@pytest.fixture(scope="module")
def planned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = make_site(tmp_path_factory.mktemp("planned"))
    answer = llm_size("recommend", "--site", str(site), "--write")
    assert 0 == answer.returncode, answer.stderr
    return site


@pytest.fixture
def planned_site(planned_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planned_once, tmp_path / "site"))


def make_site(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yml").write_text(INVENTORY, encoding="utf-8")
    (tmp_path / "request.yml").write_text(REQUEST, encoding="utf-8")
    (tmp_path / "group_vars" / "all").mkdir(parents=True)
    (tmp_path / "group_vars" / "all" / "main.yml").write_text("model_store: /srv/models\n", encoding="utf-8")
    (tmp_path / "host_vars" / "h2").mkdir(parents=True)
    _write_hardware(tmp_path, HARDWARE)
    return tmp_path


def _write_hardware(site: Path, hardware: dict[str, Any]) -> None:
    path = site / "host_vars" / "h2" / "hardware.json"
    path.write_text(json.dumps({"appliance_hardware": hardware}), encoding="utf-8")


def _plan(site: Path) -> Path:
    return site / "group_vars" / "all" / "appliance_plan.json"


def test_a_plan_is_shown_as_a_diff_and_not_written_without_write(site: Path) -> None:
    answer = llm_size("recommend", "--site", str(site))

    assert 0 == answer.returncode, answer.stderr
    assert ["+", '"max-model-len":', "2048,"] in [line.split() for line in answer.stdout.splitlines()]
    assert "not written" in answer.stderr
    assert not _plan(site).exists()


def test_writing_twice_writes_once(planned_site: Path) -> None:
    written_at = _plan(planned_site).stat().st_mtime_ns

    again = llm_size("recommend", "--site", str(planned_site), "--write")

    assert f"llm-size: unchanged {_plan(planned_site)}\n" == again.stderr
    assert written_at == _plan(planned_site).stat().st_mtime_ns
    assert ["appliance_plan.json", "main.yml"] == sorted(path.name for path in _plan(planned_site).parent.iterdir())


def test_a_change_of_mind_is_a_diff_of_the_plan(planned_site: Path) -> None:
    request = planned_site / "request.yml"
    request.write_text(REQUEST.replace("2048", "4096"), encoding="utf-8")

    answer = llm_size("recommend", "--site", str(planned_site))

    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["-", '"max-model-len":', "2048,"] in lines
    assert ["+", '"max-model-len":', "4096,"] in lines


def test_the_site_as_json_holds_plan_reasons_and_whether_it_changed(planned_site: Path) -> None:
    answer = llm_size("recommend", "--site", str(planned_site), "--json")

    content = json.loads(answer.stdout)
    assert (False, "small") == (content["changed"], content["plan"]["models"][0]["name"])
    assert content["reasons"]


def test_a_planned_site_passes_its_check(planned_site: Path) -> None:
    answer = llm_size("check", str(planned_site))

    assert (0, "") == (answer.returncode, answer.stderr)
    assert "agree" in answer.stdout


def _edit_plan(site: Path) -> None:
    text = _plan(site).read_text(encoding="utf-8")
    _plan(site).write_text(text.replace('"max_input_tokens": 1536', '"max_input_tokens": 2000'), encoding="utf-8")


def _edit_memory(site: Path) -> None:
    plan = json.loads(_plan(site).read_text(encoding="utf-8"))
    plan["appliance_plan"]["hosts"]["h2"]["engines"][0]["memory"]["weights_bytes"] += 1
    _plan(site).write_text(json.dumps(plan), encoding="utf-8")


def _change_hardware(site: Path) -> None:
    _write_hardware(site, {**HARDWARE, "memory_total_bytes": 8 * 1024**3})


def _change_request(site: Path) -> None:
    (site / "request.yml").write_text(REQUEST.replace("users: 4", "users: 5"), encoding="utf-8")


def _lose_hardware(site: Path) -> None:
    (site / "host_vars" / "h2" / "hardware.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_edit_plan, "max_input_tokens 2000 + max_output_tokens 512 = 2512"),
        (_edit_memory, "the parts add up to"),
        (_change_hardware, "the plan is older than the hardware of h2"),
        (_change_request, "the plan was made from another request"),
        (_lose_hardware, "the hardware of h2 is not known; run `ansible-playbook"),
    ],
)
def test_what_is_wrong_with_a_planned_site_is_one_line(
    planned_site: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(planned_site)

    answer = llm_size("check", str(planned_site))

    assert 2 == answer.returncode
    assert words in answer.error


@pytest.mark.parametrize(
    ("present", "other", "words"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6C", 'model "Qwen/Qwen3-0.6C" is neither in the catalogue nor a directory'),
        (
            "context_tokens: 2048",
            "context_tokens: 99999",
            "context_tokens 99999 is beyond the model's own 40960 tokens",
        ),
        ("users: 4", "userz: 4", "models.0.userz: Extra inputs are not permitted"),
        ("users: 4", "users: {", "request.yml: "),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line_and_writes_nothing(
    site: Path, present: str, other: str, words: str
) -> None:
    (site / "request.yml").write_text(REQUEST.replace(present, other), encoding="utf-8")

    answer = llm_size("recommend", "--site", str(site), "--write")

    assert 2 == answer.returncode
    assert words in answer.error
    assert not _plan(site).exists()


def test_explain_accounts_for_every_byte_and_token_of_an_engine(planned_site: Path) -> None:
    answer = llm_size("explain", "--site", str(planned_site), "--engine", "small", "--json")

    (engine,) = json.loads(answer.stdout)
    names = [reason["name"] for reason in engine["reasons"]]
    assert {
        *("usable_bytes", "requested_bytes", "weights_bytes", "activation_bytes", "non_torch_bytes"),
        *("cuda_graph_bytes", "kv_cache_bytes", "kv_cache.tokens", "max-model-len", "max-num-seqs"),
    } <= set(names)
    assert (
        "max_input_tokens 1,536 + max_output_tokens 512" in engine["reasons"][names.index("max-model-len")]["because"]
    )


def test_a_model_gets_a_relay_with_its_engines_and_the_gateway_sees_the_relay_alone(planned_site: Path) -> None:
    gateway = json.loads(_plan(planned_site).read_text(encoding="utf-8"))["appliance_plan"]["gateway"]

    (relay,) = gateway["relays"]

    assert ("small", "127.0.0.1", 4101, 2048) == tuple(relay[key] for key in ("group", "host", "port", "max_model_len"))
    assert [{"id": "small@h2", "api_base": "http://192.0.2.2:8001/v1"}] == relay["replicas"]
    assert [
        {"model": "small", "id": "small-relay", "api_base": "http://127.0.0.1:4101/v1", "served_model_name": "small"}
    ] == gateway["deployments"]


def test_explain_says_why_each_option_was_chosen(planned_site: Path) -> None:
    answer = llm_size("explain", "--site", str(planned_site), "--json")

    (engine,) = json.loads(answer.stdout)
    chosen = {choice["name"]: choice["because"] for choice in engine["choices"]}
    assert "the smallest cache, in steps of 16 MiB, that holds 4 whole windows" == chosen["kv-cache-memory-bytes"]
    assert {"max-model-len", "kv-cache-dtype", "max-num-seqs", "max-num-batched-tokens", "replicas"} <= set(chosen)


def test_a_plan_without_decisions_is_explained_as_far_as_it_goes(planned_site: Path) -> None:
    plan = json.loads(_plan(planned_site).read_text(encoding="utf-8"))
    del plan["appliance_plan"]["decisions"]
    _plan(planned_site).write_text(json.dumps(plan), encoding="utf-8")

    answer = llm_size("explain", "--site", str(planned_site), "--json")

    (engine,) = json.loads(answer.stdout)
    assert ([], []) == (engine["choices"], engine["rejected"])
    assert engine["reasons"]


def test_a_site_of_gpus_keeps_what_was_weighed_and_refuses_with_what_would_do(site: Path) -> None:
    gpu = {
        "index": 0,
        "uuid": "GPU-0",
        "name": "NVIDIA L4",
        "memory_total_bytes": 23034 * 1024**2,
        "memory_reserved_bytes": 475 * 1024**2,
        "compute_capability": [8, 9],
    }
    _write_hardware(site, {**HARDWARE, "accelerator": "cuda", "gpus": [gpu]})
    fitting = json.loads(llm_size("recommend", "--site", str(site), "--json").stdout)
    (site / "request.yml").write_text(REQUEST.replace("Qwen3-0.6B", "Qwen3-32B"), encoding="utf-8")

    refused = llm_size("recommend", "--site", str(site))

    assert ["small"] == [decision["model"] for decision in fitting["plan"]["decisions"]]
    assert 3 == refused.returncode
    assert "the weights alone need 61.02 GiB on each GPU" in refused.error
    assert "cheapest change: " in refused.error


def test_check_refuses_access_to_a_model_that_the_site_does_not_serve(planned_site: Path) -> None:
    path = planned_site / "group_vars" / "all" / "access.yml"
    path.write_text("access: {keys: [{alias: prod, models: [large]}]}\n", encoding="utf-8")
    refused = llm_size("check", str(planned_site))
    path.write_text("access: {keys: [{alias: prod, models: [small]}]}\n", encoding="utf-8")
    agreed = llm_size("check", str(planned_site))

    assert (2, 1) == (refused.returncode, len(refused.stderr.splitlines()))
    assert "key prod has model large, which is not served; there are " in refused.stderr
    assert (0, "") == (agreed.returncode, agreed.stderr)
    assert "access declares 0 teams and 1 keys" in agreed.stdout
