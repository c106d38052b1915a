"""From bare hosts to a verified site, and what a site must survive. The tests run in this order on one lab."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.appliance import Appliance
from tests.site.streaming import stream_chat
from tools import artifacts

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="boots systemd hosts: needs root on Linux"
    ),
]

ENGINE_LIMIT_SECONDS = 300
ACCEPT_LIMIT_SECONDS = 180
"""Of an acceptance with the two shortest suites; most of it is playbooks."""


@pytest.fixture(scope="module")
def appliance() -> Iterator[Appliance]:
    made = artifacts.make(lambda text: print(f"artifacts: {text}"))
    directory = Path(tempfile.mkdtemp(prefix="llm-site-", dir="/tmp"))
    appliance = Appliance(directory=directory)
    appliance.prepare(made)
    binds = made.binds(gateways=["h1"], engine_hosts=["h2", "h3"])
    try:
        appliance.lab("up", "3", "--bare", *(word for bind in binds for word in ("--bind", bind)))
        yield appliance
    finally:
        appliance.lab("down")
        shutil.rmtree(directory)


@pytest.fixture
def deployed(appliance: Appliance) -> Appliance:
    """The site after the first tests; a test that runs alone deploys it."""
    if not appliance.plan_path().exists():
        probe_and_plan(appliance)
        assert appliance.playbook("site.yml").exit_code == 0
    return appliance


def probe_and_plan(appliance: Appliance) -> None:
    probed = appliance.playbook("probe.yml")
    assert probed.exit_code == 0, probed.output
    decided = appliance.llm_size("recommend", "--site", str(appliance.site), "--write")
    assert decided.exit_code == 0, decided.output


def wait_until_engines_serve(appliance: Appliance, *engines: tuple[str, str]) -> None:
    deadline = time.monotonic() + ENGINE_LIMIT_SECONDS
    for host, engine in engines:
        while True:
            state = appliance.lab("exec", host, "--", "systemctl", "show", "-P", "ActiveState", f"vllm@{engine}")
            if state.strip() == "active":
                break
            assert time.monotonic() < deadline, f"vllm@{engine} on {host} is {state}"
            time.sleep(1)


def test_check_mode_passes_on_bare_hosts_before_the_first_run(appliance: Appliance) -> None:
    probe_and_plan(appliance)

    checked = appliance.playbook("site.yml", "--check", "--diff")

    assert checked.exit_code == 0, checked.output
    assert not any(secret in checked.output for secret in secrets_of(appliance))


def test_bare_hosts_become_a_verified_site(appliance: Appliance) -> None:
    begun = time.monotonic()
    placed = appliance.playbook("site.yml")
    assert placed.exit_code == 0, placed.output
    assert not any(secret in placed.output for secret in secrets_of(appliance))
    placed_seconds = time.monotonic() - begun

    verified = appliance.playbook("verify.yml")

    assert verified.exit_code == 0, verified.output
    print(f"\nbare hosts to placed site: {placed_seconds:.0f} s; verified after {time.monotonic() - begun:.0f} s")


def test_a_second_run_changes_nothing(deployed: Appliance) -> None:
    begun = time.monotonic()
    again = deployed.playbook("site.yml")

    assert again.exit_code == 0, again.output
    assert {"h1": 0, "h2": 0, "h3": 0} == again.changed(), again.output
    print(f"\nsecond run: {time.monotonic() - begun:.0f} s")


def test_a_quick_acceptance_writes_a_signed_bundle_with_evidence_of_the_run(deployed: Appliance) -> None:
    key, made = deployed.directory / "signer", deployed.directory / "acceptance"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    allowed = deployed.directory / "allowed"
    allowed.write_text(f"lab@example.org {key.with_suffix('.pub').read_text()}", encoding="utf-8")

    accepted = deployed.llm_size(
        *("accept", str(deployed.site), "--quick", "--suite", "smoke", "--suite", "agreed_load"),
        *("--key", str(key), "--output", str(made)),
        limit_seconds=ACCEPT_LIMIT_SECONDS,
    )

    assert accepted.exit_code in {0, 1, 7}, accepted.output  # 7: on a busy machine the load generator is late
    items = {one["item"]: one["status"] for one in json.loads((made / "report.json").read_text())["checklist"]}
    by_evidence = ("single_endpoint", "routing", "cost_accounting", "budget_limit", "audit_trail")
    assert {"passed"} == {items[item] for item in (*by_evidence, "engines_behind_gateway")}, accepted.output
    assert ["not available"] * 2 == [items["fallback"], items["added_latency"]]
    written = b"".join(path.read_bytes() for path in made.rglob("*") if path.is_file())
    assert not any(secret.encode() in written for secret in secrets_of(deployed))

    check = ("accept", "--check", str(made), "--allowed-signers", str(allowed))
    whole = deployed.llm_size(*check)
    (made / "raw" / "calls.jsonl").write_text("", encoding="utf-8")
    touched = deployed.llm_size(*check)

    assert (0, 1) == (whole.exit_code, touched.exit_code)
    assert "signed by lab@example.org" in whole.output
    assert "calls.jsonl: changed after it was signed" in touched.output


def test_a_killed_api_server_leaves_no_orphan_and_the_engine_serves_again(deployed: Appliance) -> None:
    before = engine_processes(deployed)

    deployed.lab("exec", "h2", "--", "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "vllm@tiny-qwen3")
    time.sleep(3)
    wait_until_engines_serve(deployed, ("h2", "tiny-qwen3"))

    after = engine_processes(deployed)
    assert before
    assert set() == set(before) & set(after)
    assert len(after) == len(before)


def test_a_stream_through_the_gateway_does_not_see_its_engine_die(deployed: Appliance) -> None:
    url, key = deployed.gateway(), deployed.vault()["vault_gateway_master_key"]
    body = {"model": "tiny-qwen3", "max_tokens": 1000, "messages": [{"role": "user", "content": "Explain caching."}]}
    undisturbed = stream_chat(url, key, body)
    killed: list[str] = []

    def kill_the_engine_that_serves() -> None:
        killed.extend(deployed.busy_hosts("tiny-qwen3"))
        for host in killed:
            deployed.lab("exec", host, "--", "systemctl", "kill", "--signal=KILL", "vllm@tiny-qwen3")

    # At full speed the engine has generated everything before the client has read its first words.
    set_cpu_quota(deployed, "40%")
    try:
        survived = stream_chat(url, key, body, act_after=20, act=kill_the_engine_that_serves)
    finally:
        set_cpu_quota(deployed, "")

    assert len(killed) == 1
    assert ["fault", "completed"] == [leg["outcome"] for leg in deployed.last_legs("tiny-qwen3")]
    assert (200, []) == (survived.status, survived.errors)
    assert survived.text == undisturbed.text
    assert survived.finish_reasons == undisturbed.finish_reasons
    assert survived.usages == undisturbed.usages
    assert len(survived.ids) == 1
    assert survived.ended_with_done
    wait_until_engines_serve(deployed, (killed[0], "tiny-qwen3"))


def test_a_drained_engine_stops_at_once_and_comes_back_with_its_golden_answer(deployed: Appliance) -> None:
    target = ("-e", "drain_host=h2", "-e", "drain_engine=tiny-qwen3")

    out = deployed.playbook("drain.yml", *target, "-e", "drain_state=out")
    state = deployed.lab(
        "exec", "h2", "--", "systemctl", "show", "-P", "ActiveState", "-P", "Result", "vllm@tiny-qwen3"
    )
    back = deployed.playbook("drain.yml", *target, "-e", "drain_state=in")

    assert out.exit_code == 0, out.output
    assert {"inactive", "success"} == set(state.split())
    assert back.exit_code == 0, back.output
    assert [] == deployed.busy_hosts("tiny-qwen3")


def test_an_engine_that_answers_otherwise_than_when_it_was_deployed_stays_out(deployed: Appliance) -> None:
    target = ("-e", "drain_host=h2", "-e", "drain_engine=tiny-qwen3")
    golden = "/var/lib/vllm/golden/tiny-qwen3.json"
    deployed.lab("exec", "h2", "--", "sed", "-i.kept", 's/"token_ids": \\[[0-9]*,/"token_ids": [1,/', golden)
    try:
        out = deployed.playbook("drain.yml", *target, "-e", "drain_state=out")
        refused = deployed.playbook("drain.yml", *target, "-e", "drain_state=in")
        states = deployed.replica_states("tiny-qwen3")
    finally:
        deployed.lab("exec", "h2", "--", "mv", f"{golden}.kept", golden)

    assert out.exit_code == 0, out.output
    assert refused.exit_code != 0
    assert "answers otherwise than when it was deployed, from token 1" in refused.output
    assert "serving" != states["tiny-qwen3@h2"]
    back = deployed.playbook("drain.yml", *target, "-e", "drain_state=in")
    assert back.exit_code == 0, back.output


def test_a_site_survives_the_reboot_of_every_host(deployed: Appliance) -> None:
    for host in ("h1", "h2", "h3"):
        deployed.lab("reboot", host)
    wait_until_engines_serve(deployed, ("h2", "tiny-qwen3"), ("h3", "tiny-qwen3"), ("h3", "tiny-gemma3"))
    deployed.lab("exec", "h1", "--", "systemctl", "start", "litellm")

    verified = deployed.playbook("verify.yml")

    assert verified.exit_code == 0, verified.output


def test_a_wrong_vault_password_is_one_clear_error_and_changes_nothing(deployed: Appliance, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong", encoding="utf-8")

    refused = deployed.playbook("site.yml", LLM_APPLIANCE_VAULT_PASSWORD_FILE=str(wrong))

    assert refused.exit_code != 0
    assert "Decryption failed" in refused.output
    assert {} == refused.changed()


def test_a_plan_edited_by_hand_is_refused(deployed: Appliance) -> None:
    plan = deployed.plan_path().read_text(encoding="utf-8")
    content = json.loads(plan)
    content["appliance_plan"]["models"][0]["max_input_tokens"] += 1
    deployed.plan_path().write_text(json.dumps(content), encoding="utf-8")
    try:
        refused = deployed.playbook("site.yml")
    finally:
        deployed.plan_path().write_text(plan, encoding="utf-8")

    assert refused.exit_code != 0
    assert "smallest max-model-len" in refused.output
    assert all(count == 0 for count in refused.changed().values())


def test_a_port_in_use_is_named_before_anything_changes(deployed: Appliance) -> None:
    deployed.lab("exec", "h2", "--", "systemctl", "stop", "vllm@tiny-qwen3")
    deployed.lab(
        "exec", "h2", "--", "systemd-run", "--quiet", "--unit=squatter", "python3", "-m", "http.server", "8001"
    )
    time.sleep(1)
    try:
        refused = deployed.playbook("site.yml", "--limit", "h2")
    finally:
        deployed.lab("exec", "h2", "--", "systemctl", "stop", "squatter")

    assert refused.exit_code != 0
    assert "8001" in refused.output
    assert {"h2": 0} == refused.changed()


def test_a_full_disk_stops_an_engine_host_and_the_next_run_finishes_the_job(deployed: Appliance) -> None:
    deployed.lab("exec", "h2", "--", "rm", "-rf", "/var/lib/vllm/models")
    deployed.lab("exec", "h2", "--", "mkdir", "/var/lib/vllm/models")
    deployed.lab("exec", "h2", "--", "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/var/lib/vllm/models")
    try:
        refused = deployed.playbook("site.yml", "--limit", "h2")
    finally:
        deployed.lab("exec", "h2", "--", "umount", "/var/lib/vllm/models")

    assert refused.exit_code != 0
    assert "free" in refused.output

    finished = deployed.playbook("site.yml", "--limit", "h2")
    assert finished.exit_code == 0, finished.output
    wait_until_engines_serve(deployed, ("h2", "tiny-qwen3"))


def test_a_host_that_is_down_is_named_and_the_next_run_finishes_the_job(deployed: Appliance) -> None:
    deployed.lab("kill", "h3")

    refused = deployed.playbook("site.yml")
    verdict = deployed.playbook("verify.yml")
    deployed.lab("start", "h3")
    deployed.lab("wait", "h3")

    assert refused.exit_code != 0
    assert "h3" in refused.output
    assert "UNREACHABLE" in refused.output
    assert verdict.exit_code != 0
    assert any(check["verdict"] == "fail" and "h3" in check["subject"] for check in checks_of(deployed))

    finished = deployed.playbook("site.yml")
    assert finished.exit_code == 0, finished.output
    wait_until_engines_serve(deployed, ("h3", "tiny-qwen3"), ("h3", "tiny-gemma3"))
    verified = deployed.playbook("verify.yml")
    assert verified.exit_code == 0, verified.output


def secrets_of(appliance: Appliance) -> list[str]:
    return [secret for name, secret in appliance.vault().items() if name.startswith("vault_")]


def checks_of(appliance: Appliance) -> list[dict[str, str]]:
    checks = appliance.report()["checks"]
    assert isinstance(checks, list)
    return checks


def set_cpu_quota(appliance: Appliance, quota: str) -> None:
    for host in ("h2", "h3"):
        appliance.lab(
            "exec", host, "--", "systemctl", "set-property", "--runtime", "vllm@tiny-qwen3", f"CPUQuota={quota}"
        )


def engine_processes(appliance: Appliance) -> list[str]:
    """The pids of every process of user vllm on h2."""
    return appliance.lab("exec", "h2", "--", "pgrep", "-u", "vllm").split()
