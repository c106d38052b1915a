"""Every alert is played by promtool twice: once it must fire, and once, with numbers nearby, it must not."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sight.rendered import RULES, render

# Lab tier, because it takes half a minute of a core, and what it needs is installed there.
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"),
]

ENGINE = 'job="engine",host="h2",deployment="chat@h2",model="chat"'
RELAY = 'job="relay",host="h1",relay="chat",model="chat"'
GPU = 'job="gpu",host="h2",gpu="0",uuid="GPU-1"'
DISK = 'job="node",host="h1",mountpoint="/",fstype="ext4",device="/dev/sda1"'


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series a minute apart, or as `step` says; `after` is when one looks."""

    alert: str
    fires: dict[str, str]
    silent: dict[str, str]
    after: str = "20m"
    step: str = "1m"


def histogram(within: str, count: str) -> dict[str, str]:
    return {
        f'relay_first_byte_seconds_bucket{{{RELAY},le="2.5"}}': within,
        f"relay_first_byte_seconds_count{{{RELAY}}}": count,
    }


def outcomes(completed: str, failed: str, *, outcome: str = "engines_failed") -> dict[str, str]:
    return {
        f'relay_requests_total{{{RELAY},outcome="completed"}}': completed,
        f'relay_requests_total{{{RELAY},outcome="{outcome}"}}': failed,
    }


def edge(good: str, bad: str, *, code: str = "5xx") -> dict[str, str]:
    labels = 'job="edge",host="h1",proxy="clients"'
    return {
        f'haproxy_frontend_http_responses_total{{{labels},code="2xx"}}': good,
        f'haproxy_frontend_http_responses_total{{{labels},code="{code}"}}': bad,
    }


def disk(available: str, size: str = "1000x600") -> dict[str, str]:
    return {f"node_filesystem_avail_bytes{{{DISK}}}": available, f"node_filesystem_size_bytes{{{DISK}}}": size}


def engine(running: str, generated: str, read: str) -> dict[str, str]:
    return {
        f"vllm:num_requests_running{{{ENGINE}}}": running,
        f"vllm:generation_tokens_total{{{ENGINE}}}": generated,
        f"vllm:prompt_tokens_total{{{ENGINE}}}": read,
    }


def gateway(ready: str, database: str) -> dict[str, str]:
    labels = 'job="gateway",host="h1"'
    return {
        f"appliance_gateway_ready{{{labels}}}": ready,
        f"appliance_gateway_database_connected{{{labels}}}": database,
    }


def replicas(first: str, second: str) -> dict[str, str]:
    return {
        f'relay_replica_serving{{{RELAY},replica="chat@h2"}}': first,
        f'relay_replica_serving{{{RELAY},replica="chat@h3"}}': second,
    }


def up(job: str, values: str, host: str = "h1") -> dict[str, str]:
    return {f'up{{job="{job}",host="{host}"}}': values}


def one(series: str, fires: str, silent: str) -> dict[str, dict[str, str]]:
    return {"fires": {series: fires}, "silent": {series: silent}}


CASES = (
    Case(
        alert="EngineDown", fires={f"up{{{ENGINE}}}": "1x17 0x10"}, silent={f"up{{{ENGINE}}}": "1x19 0x10"}, after="20m"
    ),
    Case(alert="EngineEjected", fires=replicas("1x20", "0x20"), silent=replicas("1x20", "1x20")),
    Case(alert="NoEngineServes", fires=replicas("0x20", "0x20"), silent=replicas("1x20", "0x20")),
    Case(alert="EngineHangs", fires=engine("3x20", "500x20", "900x20"), silent=engine("3x20", "500+60x20", "900x20")),
    # A long prompt is being read: no token comes out, and nothing hangs.
    Case(alert="EngineHangs", fires=engine("1x20", "0x20", "7x20"), silent=engine("1x20", "500x20", "0+4096x20")),
    # Nothing to do is no hang.
    Case(alert="EngineHangs", fires=engine("1x20", "0x20", "0x20"), silent=engine("0x20", "500x20", "900x20")),
    Case(
        alert="KvCacheFull",
        **one(f"vllm:kv_cache_usage_perc{{{ENGINE}}}", "0.99x20", "0.99x9 0.5 0.99x20"),
        after="14m",
    ),
    Case(alert="EnginePreempts", **one(f"vllm:num_preemptions_total{{{ENGINE}}}", "0+12x20", "0+3x20")),
    Case(
        alert="QueueGrows",
        **one(f"relay_queue_requests{{{RELAY}}}", "1+2x20", "0 8 0 9 0 8 0 9 0 8 0 9 0 8 0 9 0 8 0 9 0"),
    ),
    Case(alert="QueueGrows", **one(f"vllm:num_requests_waiting{{{ENGINE}}}", "6+1x20", "20-1x20")),
    Case(alert="GatewayDown", fires=gateway("0x20", "0x20"), silent=gateway("1x20", "1x20")),
    Case(alert="GatewayWithoutDatabase", fires=gateway("1x20", "0x20"), silent=gateway("0x20", "0x20")),
    Case(alert="RelayDown", fires={f"up{{{RELAY}}}": "0x20"}, silent={f"up{{{RELAY}}}": "1x20"}),
    Case(alert="GatewayFails", fires=edge("0+60x20", "0+6x20"), silent=edge("0+60x20", "0+1x20")),
    Case(alert="GatewayFails", fires=edge("0x20", "0+6x20"), silent=edge("0+60x20", "0+60x20", code="4xx")),
    Case(alert="AnswersFail", fires=outcomes("0+60x20", "0+6x20"), silent=outcomes("0+60x20", "0+2x20")),
    # Clients that hang up, or ask what the engine refuses, are no failure of the site.
    Case(
        alert="AnswersFail",
        fires=outcomes("0+60x20", "0+30x20", outcome="no_replica"),
        silent=outcomes("0+60x20", "0+60x20", outcome="client_left"),
    ),
    Case(
        alert="BillStandsStill",
        **one('appliance_ledger_last_success_timestamp_seconds{job="node",host="h1"}', "60x40", "0+60x40"),
        after="30m",
    ),
    Case(alert="BillLosesLines", **one(f"relay_ledger_lost_lines_total{{{RELAY}}}", "0x15 1x10", "1x20")),
    Case(alert="HostDown", fires=up("node", "0x20"), silent=up("node", "1x20")),
    Case(alert="GpuUnreadable", fires=up("gpu", "0x20", "h2"), silent=up("gpu", "1x18 0x2", "h2")),
    Case(alert="GpuGone", **one('appliance_gpu_count{job="gpu",host="h2"}', "8x10 7x20", "8x20")),
    Case(
        alert="GpuTooHot",
        fires={
            f"appliance_gpu_temperature_celsius{{{GPU}}}": "85x20",
            f"appliance_gpu_slowdown_temperature_celsius{{{GPU}}}": "87x20",
        },
        silent={
            f"appliance_gpu_temperature_celsius{{{GPU}}}": "88x20",
            f"appliance_gpu_slowdown_temperature_celsius{{{GPU}}}": "95x20",
        },
    ),
    Case(alert="GpuTooHot", **one(f"appliance_gpu_temperature_celsius{{{GPU}}}", "88x20", "80x20")),
    Case(
        alert="GpuSlowsDown",
        fires={f'appliance_gpu_slowdown{{{GPU},reason="hardware_thermal"}}': "1x20"},
        silent={f'appliance_gpu_slowdown{{{GPU},reason="power_cap"}}': "1x20"},
    ),
    # Old errors of the board are old; new ones are not.
    Case(alert="GpuMemoryErrors", **one(f"appliance_gpu_ecc_uncorrected_errors_total{{{GPU}}}", "3x10 4x20", "3x20")),
    Case(alert="GpuMemoryErrors", **one(f"appliance_gpu_remapped_rows_pending{{{GPU}}}", "1x20", "0x20")),
    Case(alert="DiskFull", fires=disk("40x20"), silent=disk("60x20")),
    Case(alert="DiskFills", fires=disk("390-2x120"), silent=disk("390-0.5x120"), after="8h", step="5m"),
    # Growing is no reason to wake anybody while most of it is free.
    Case(alert="DiskFills", fires=disk("390-2x120"), silent=disk("800-4x80"), after="5h", step="5m"),
    Case(
        alert="MemoryShort",
        fires={
            f'node_memory_{name}_bytes{{job="node",host="h1"}}': v
            for name, v in (("MemAvailable", "4x20"), ("MemTotal", "100x20"))
        },
        silent={
            f'node_memory_{name}_bytes{{job="node",host="h1"}}': v
            for name, v in (("MemAvailable", "6x20"), ("MemTotal", "100x20"))
        },
    ),
    Case(
        alert="UnitFailed",
        **one('node_systemd_unit_state{job="node",host="h1",name="litellm.service",state="failed"}', "1x20", "0x20"),
    ),
    Case(alert="PostgresDown", **one('pg_up{job="postgres",host="h1"}', "0x20", "1x20")),
    Case(alert="PostgresDown", fires=up("postgres", "0x20"), silent=up("postgres", "1x20")),
    Case(
        alert="PostgresConnectionsShort",
        fires={
            'pg_stat_activity_count{job="postgres",host="h1",datname="a",state="idle"}': "50x20",
            'pg_stat_activity_count{job="postgres",host="h1",datname="b",state="idle"}': "40x20",
            'pg_settings_max_connections{job="postgres",host="h1",server="s"}': "100x20",
        },
        silent={
            'pg_stat_activity_count{job="postgres",host="h1",datname="a",state="idle"}': "50x20",
            'pg_settings_max_connections{job="postgres",host="h1",server="s"}': "100x20",
        },
    ),
    Case(alert="RedisDown", **one('redis_up{job="redis",host="h1"}', "0x20", "1x20")),
    Case(
        alert="RedisFull",
        fires={
            f'redis_memory_{name}_bytes{{job="redis",host="h1"}}': v
            for name, v in (("used", "99x20"), ("max", "100x20"))
        },
        # 0: no limit is set.
        silent={
            f'redis_memory_{name}_bytes{{job="redis",host="h1"}}': v for name, v in (("used", "99x20"), ("max", "0x20"))
        },
    ),
    Case(
        alert="ErrorBudgetBurnsFast",
        fires=outcomes("0+90x90", "0+10x90"),
        silent=outcomes("0+97x90", "0+3x90"),
        after="80m",
    ),
    # It is over: the last five minutes are good again.
    Case(
        alert="ErrorBudgetBurnsFast",
        fires=outcomes("0+90x90", "0+10x90"),
        silent=outcomes("0+90x90", "0+10x60 600x30"),
        after="80m",
    ),
    # First tokens: 5 % may be late; 14.4 times as many must not.
    Case(
        alert="ErrorBudgetBurnsFast",
        fires=histogram("0+20x90", "0+100x90"),
        silent=histogram("0+40x90", "0+100x90"),
        after="80m",
    ),
    Case(alert="ErrorBudgetBurnsFast", fires=edge("0+90x90", "0+10x90"), silent=edge("0+99x90", "0+1x90"), after="80m"),
    Case(
        alert="ErrorBudgetBurns",
        fires=outcomes("0+480x100", "0+20x100"),
        silent=outcomes("0+490x100", "0+10x100"),
        after="450m",
        step="5m",
    ),
    Case(
        alert="ErrorBudgetBurns",
        fires=histogram("0+300x100", "0+500x100"),
        silent=histogram("0+400x100", "0+500x100"),
        after="450m",
        step="5m",
    ),
    Case(alert="ExporterDown", fires=up("gateway", "0x20"), silent=up("gateway", "1x20")),
    Case(alert="AlertsAreLost", **one('prometheus_notifications_dropped_total{job="prometheus"}', "0+5x20", "5x20")),
    Case(
        alert="AlertsAreLost", **one('alertmanager_notifications_failed_total{integration="webhook"}', "0+5x20", "5x20")
    ),
    Case(alert="RulesFail", **one('prometheus_rule_evaluation_failures_total{rule_group="x"}', "0+5x20", "5x20")),
)


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((RULES / "appliance.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]


def played(case: Case, *, fires: bool) -> dict[str, Any]:
    """One test of promtool: the number of firing alerts of this name, or no answer."""
    expression = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) > 0'
    series = case.fires if fires else case.silent
    labels = f"{case.alert} {'fires' if fires else 'is silent'} {CASES.index(case)}"
    return {
        "name": labels,
        "interval": case.step,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"{expression} or vector(0)",
                "eval_time": case.after,
                "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
            }
        ],
    }


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = render(tmp_path_factory.mktemp("rules"))
    return [str(RULES / "appliance.yml"), str(directory / "objectives.yml")]


def play(
    tests: list[dict[str, Any]], rules: list[str], directory: Path, *, step: str = "1m"
) -> subprocess.CompletedProcess[str]:
    path = directory / "tests.yml"
    document = {"rule_files": rules, "evaluation_interval": step, "tests": tests}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("step", ["1m", "5m"])
def test_every_alert_fires_when_it_should_and_is_silent_when_numbers_are_only_near(
    rules: list[str], tmp_path: Path, step: str
) -> None:
    tests = [played(case, fires=fires) for case in CASES if case.step == step for fires in (True, False)]

    answer = play(tests, rules, tmp_path, step=step)

    assert 0 == answer.returncode, answer.stdout + answer.stderr


def test_a_wrong_expectation_is_noticed(rules: list[str], tmp_path: Path) -> None:
    wrong = played(CASES[0], fires=True)
    wrong["promql_expr_test"][0]["exp_samples"] = [{"labels": "{}", "value": 0}]

    assert 1 == play([wrong], rules, tmp_path).returncode


def test_no_alert_is_without_a_case() -> None:
    # The watchdog fires always, which the living test shows.
    assert {rule["alert"] for rule in alerts()} == {case.alert for case in CASES} | {"Watchdog"}


def test_every_alert_says_how_urgent_it_is_what_happened_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "warn", "none"}, rule["alert"]
        assert {"summary", "todo"} == set(rule["annotations"]), rule["alert"]
