"""What the roles write for a small site: targets from the plan, units that are whole, no secret aside."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.sight.rendered import NASTY, render

SECRET_URL = "http://127.0.0.1:9/hook-with-a-secret"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(
        tmp_path_factory.mktemp("monitoring"),
        monitoring_webhook_urls=[SECRET_URL],
        monitoring_slack_webhook_url=SECRET_URL,
        monitoring_dead_man_url=SECRET_URL,
        monitoring_email_to="ops@example.com",
        monitoring_email_from="appliance@example.com",
        monitoring_email_smarthost="mail.example.com:25",
        monitoring_grafana_admin_password=NASTY,
    )


def test_targets_are_what_the_plan_has(rendered: Path) -> None:
    jobs = {
        job["job_name"]: job["static_configs"]
        for job in yaml.safe_load((rendered / "prometheus.yml").read_text())["scrape_configs"]
    }

    assert [
        {"targets": ["10.0.0.12:8001"], "labels": {"host": "h2", "deployment": "chat@h2", "model": "chat"}},
        {"targets": ["10.0.0.13:8001"], "labels": {"host": "h3", "deployment": "chat@h3", "model": "chat"}},
    ] == jobs["engine"]
    assert "/relay/chat" == jobs["relay"][0]["labels"]["__metrics_path__"]
    assert ["10.0.0.11:9100", "10.0.0.12:9100", "10.0.0.13:9100"] == [one["targets"][0] for one in jobs["node"]]
    assert ["h2", "h3"] == [one["labels"]["host"] for one in jobs["gpu"]]
    assert {"prometheus", "alertmanager", "gateway", "edge", "postgres", "redis"} <= set(jobs)


def test_a_host_gets_the_exporters_that_it_is_asked_for(rendered: Path) -> None:
    assert ["node", "postgres", "redis", "gateway"] == json.loads((rendered / "wanted.json").read_text())


@pytest.mark.parametrize(
    "name",
    ["node.conf", "postgres.conf", "redis.conf", "sight-gateway.service", "sight-gpu.service", "prometheus.conf",
     "prometheus-alertmanager.conf", "grafana.conf"],
)  # fmt: skip
def test_every_line_of_a_unit_is_one_setting(rendered: Path, name: str) -> None:
    lines = (rendered / name).read_text(encoding="utf-8").splitlines()

    strange = [line for line in lines if line and not re.match(r"#|\[\w+\]$|[A-Z]\w+=[^#]*$", line)]
    assert [] == strange
    assert 1 == lines.count("[Service]")


def test_exporters_answer_the_monitoring_hosts_and_nobody_else(rendered: Path) -> None:
    for name in ("node.conf", "postgres.conf", "redis.conf", "sight-gateway.service", "sight-gpu.service"):
        unit = (rendered / name).read_text(encoding="utf-8")
        assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.11 10.0.0.11\n" in unit, name
        assert re.search(r"(listen-address=|--listen )10\.0\.0\.11:\d+", unit), name


def test_secrets_stand_where_only_root_or_the_service_reads(rendered: Path) -> None:
    holders = {
        path.name
        for path in rendered.iterdir()
        if path.is_file() and any(text in path.read_text("utf-8") for text in (SECRET_URL, "p@ss"))
    }

    assert {"alertmanager.yml", "grafana.env", "redis.env", "variables.json"} == holders


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool (Debian: prometheus-alertmanager) is not installed")
def test_alertmanager_understands_what_is_written(rendered: Path) -> None:
    checked = subprocess.run(
        ["amtool", "check-config", str(rendered / "alertmanager.yml")], capture_output=True, text=True, check=False
    )

    assert 0 == checked.returncode, checked.stdout + checked.stderr
    assert {"operators", "dead_man"} == {
        one["name"] for one in yaml.safe_load((rendered / "alertmanager.yml").read_text())["receivers"]
    }
