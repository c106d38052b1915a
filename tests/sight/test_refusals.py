"""What the role monitoring refuses before anything changes, in one line that says what to do."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

# Lab tier: Ansible plays the role's checks for a dozen hosts, which takes a while.
pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = {"monitoring_grafana_package": str(ROOT / "README.md")}
MAIL = {"monitoring_email_to": "ops@example.com"}

# Wishes, and words of the refusal.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-password": (GRAFANA, "monitoring_grafana_admin_password is empty or shorter than 12 characters"),
    "short-password": ({**GRAFANA, "monitoring_grafana_admin_password": "short"}, "shorter than 12 characters"),
    "no-package": ({**GRAFANA, "monitoring_grafana_admin_password": "x" * 12}, "is no .deb file on the controller"),
    "misspelt": ({"monitoring_webhook_url": "http://127.0.0.1:1"}, "no such variable: monitoring_webhook_url;"),
    "open": ({"monitoring_address": "192.0.2.11"}, "name the operators' networks in monitoring_operator_networks"),
    "first-token": (
        {"monitoring_first_token_seconds": 2.0},
        "monitoring_first_token_seconds 2.0 must be one of 0.005,",
    ),
    "objective": ({"monitoring_answers_objective_ratio": 1}, "at least 0.5 and below 1"),
    "half-a-mail": (MAIL, "monitoring_email_from and monitoring_email_smarthost (HOST:PORT) go together"),
    "no-url": ({"monitoring_webhook_urls": ["hooks.example.com/x"]}, "do not begin with http://HOST"),
    "unreachable": ({"monitoring_webhook_urls": ["http://127.0.0.1:1/secret"]}, "127.0.0.1 cannot be reached from"),
    "full": ({"monitoring_free_disk_bytes": 10**18}, "monitoring needs"),
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Ansible said last of each host; empty where all was well."""
    if shutil.which("ss") is None:
        pytest.skip("needs ss (Debian: iproute2) to see who listens")
    directory = tmp_path_factory.mktemp("refusals")
    with socket.create_server(("127.0.0.1", 0)) as door:
        fine = {
            "monitoring_webhook_urls": [f"http://127.0.0.1:{door.getsockname()[1]}/x"],
            "monitoring_free_disk_bytes": 1,
        }
        hosts = {name: wishes for name, (wishes, _) in REFUSED.items()} | {"fine": fine}
        own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {name: own | wishes for name, wishes in hosts.items()}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        completed = subprocess.run(
            [sys.executable, "-m", "ansible.cli.playbook", "-i", str(directory / "hosts.yml"), "--check",
             str(ROOT / "tests" / "ansible" / "monitoring_preflight.yml")],
            env={**os.environ, "ANSIBLE_CONFIG": str(directory / "none.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                 "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    told = json.loads(completed.stdout[completed.stdout.index("{") :])
    found = dict.fromkeys(hosts, "")
    for task in told["plays"][0]["tasks"]:
        for name, answer in task["hosts"].items():
            if answer.get("failed"):
                found[name] = " ".join(
                    [str(answer.get("msg", ""))] + [str(one.get("msg", "")) for one in answer.get("results", [])]
                )
    return found


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_words_that_help(messages: dict[str, str], case: str) -> None:
    assert REFUSED[case][1] in messages[case]


def test_a_wish_that_can_be_met_is_not_refused(messages: dict[str, str]) -> None:
    assert "" == messages["fine"]


def test_no_refusal_tells_a_secret(messages: dict[str, str]) -> None:
    assert "secret" not in messages["unreachable"]
