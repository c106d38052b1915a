"""What the relay role writes: the plan's relay as its configuration, a unit per release, a truthful fingerprint."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sizing.plan import Plan
from tests.fakes.lab_site import plan_content

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-0123456789abcdef"


def relay_of_the_plan(**changes: Any) -> dict[str, Any]:
    plan = json.loads(Plan.parse(plan_content(), origin="plan").to_group_vars())["appliance_plan"]
    relay: dict[str, Any] = plan["gateway"]["relays"][0]
    return {**relay, **changes}


def render(directory: Path, *, source_checksum: str = "aa", key: str = KEY, **changes: Any) -> Path:
    directory.mkdir(exist_ok=True)
    source = directory / "source"
    source.mkdir(exist_ok=True)
    (source / "__init__.py").write_text('__version__ = "1.2.3"\n', encoding="utf-8")
    variables = {
        "relay_groups": [relay_of_the_plan(**changes)],
        "relay_source": str(source),
        "relay_api_key": key,
        "source_checksum": source_checksum,
        "output_directory": str(directory),
    }
    given = directory / "variables.json"
    given.write_text(json.dumps(variables), encoding="utf-8")
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", f"@{given}"),
            str(ROOT / "tests" / "ansible" / "relay_templates.yml"),
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
    return render(tmp_path_factory.mktemp("relay"))


def fingerprint(directory: Path) -> str:
    found = re.search(r"^RELAY_FINGERPRINT=([0-9a-f]{64})$", (directory / "relay.env").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_configuration_is_the_plans_relay_and_the_places_of_the_role(rendered: Path) -> None:
    config = yaml.safe_load((rendered / "config.yaml").read_text(encoding="utf-8"))

    assert 1 == config.pop("schema_version")
    assert "/var/lib/relay/ledger" == config.pop("ledger_directory")
    assert "/var/lib/relay/drained/tiny-qwen3.json" == config.pop("drained_file")
    planned = relay_of_the_plan()
    del planned["model"]
    assert planned == config


def test_a_relay_and_its_stand_in_run_the_same_release_and_share_the_socket(rendered: Path) -> None:
    units = [(rendered / name).read_text(encoding="utf-8") for name in ("relay@.service", "relay-standin@.service")]

    releases = [re.findall(r"/opt/relay/(1\.2\.3-[0-9a-f]{12})/venv/bin/python -m relay", unit) for unit in units]

    assert releases[0] == releases[1]
    assert len(releases[0]) == 1
    assert all("\nSockets=relay@%i.socket\n" in unit for unit in units)
    assert "--config /etc/relay/%i.standin.yaml" in units[1]
    assert "WantedBy" not in units[1]


def test_the_key_stands_in_the_environment_file_alone(rendered: Path) -> None:
    holders = [path.name for path in rendered.iterdir() if path.is_file() and KEY in path.read_text("utf-8")]

    assert ["relay.env", "variables.json"] == sorted(holders)


def test_a_stop_gives_running_answers_the_drain_time_and_a_little_more(tmp_path: Path) -> None:
    render(tmp_path, drain_seconds=60.5)

    assert "\nTimeoutStopSec=76\n" in (tmp_path / "relay@.service").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [{"source_checksum": "bb"}, {"key": "sk-another-key-of-the-engines"}, {"stall_seconds": 9.0}, {"port": 4109}],
)
def test_what_a_relay_is_started_with_changes_its_fingerprint(
    rendered: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert fingerprint(render(tmp_path / "changed", **change)) != fingerprint(rendered)
