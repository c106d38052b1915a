"""A real Prometheus and Alertmanager on loopback with the role's own files, before a real relay with its exporter.

Scrapes come every three seconds, alerts at once, and again soon when nobody was there to be told (a minute otherwise);
nothing else differs from what the role writes.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.sight.rendered import ROOT, RULES, render

PROGRAMS = ("prometheus", "prometheus-alertmanager", "promtool", "amtool")
DEADLINE_SECONDS = 120.0


def why_not() -> str | None:
    """The reason why this machine cannot run them, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)} (Debian: prometheus, prometheus-alertmanager)" if missing else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, found: Callable[[], Any]) -> Any:
    """What `found` answers once it is truthy."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        answer = found()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS:.0f} s"
        time.sleep(0.2)


@dataclass(kw_only=True)
class Receiver:
    """A webhook that keeps what it gets, by path."""

    port: int
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, path: str, name: str, status: str = "firing") -> list[dict[str, Any]]:
        """Alerts of this name that came by this path, in this state."""
        return [
            alert
            for where, message in list(self.got)
            for alert in message["alerts"]
            if (where, alert["labels"]["alertname"], alert["status"]) == (path, name, status)
        ]


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept = Receiver(port=server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Where Prometheus listens."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text
        return list(answer.json()["data"]["result"])

    def value(self, expression: str) -> float | None:
        """Of the first sample."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None


@contextmanager
def exporter(folder: Path, *, relay_port: int, identities: Path) -> Iterator[int]:
    """`sight gateway` for the relay; its port."""
    ledger = folder / "ledger.json"
    prices = {"fault": {"input": "0.001", "output": "0.002"}}
    identities.mkdir(exist_ok=True)
    places = {"relay_directory": str(folder), "identity_directory": str(identities)}
    ledger.write_text(json.dumps({**places, "prices": prices}), encoding="utf-8")
    configuration = folder / "gateway.json"
    content = {
        "gateway_url": "http://127.0.0.1:1",
        "relays": {"fault": relay_port},
        "ledger_configuration": str(ledger),
    }
    configuration.write_text(json.dumps(content), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "sight", "gateway", "--listen", f"127.0.0.1:{port}", "--config", configuration]
    with (folder / "sight.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def monitoring(folder: Path, *, exporter_port: int, alerts: Receiver) -> Iterator[Monitoring]:
    """Both programs, with the files of the role."""
    port, alertmanager_port = free_port(), free_port()
    rules = folder / "rules"
    rules.mkdir()
    rendered = folder / "rendered"
    rendered.mkdir()
    render(
        rendered,
        monitoring_engine_models=[],
        monitoring_relays=[{"group": "fault", "model": "fault", "port": 0}],
        monitoring_hosts={"h1": "127.0.0.1"},
        monitoring_gateway_hosts=["h1"],
        **{f"monitoring_{name}_hosts": [] for name in ("gpu", "postgres", "redis", "edge")},
        monitoring_scrape_seconds=3,
        monitoring_webhook_urls=[f"http://127.0.0.1:{alerts.port}/operators"],
        monitoring_dead_man_url=f"http://127.0.0.1:{alerts.port}/dead-man",
        __monitoring_rules_dir=str(rules),
        __monitoring_alertmanager_port=alertmanager_port,
        __monitoring_prometheus_port=port,
        # A host that seems to be down would silence what is told of its services.
        __monitoring_ports={"node": exporter_port, "postgres": 1, "redis": 1, "gateway": exporter_port, "gpu": 1},
    )
    at_once = re.sub(r"\bfor: \d+[smh]", "for: 0s", (RULES / "appliance.yml").read_text(encoding="utf-8"))
    (rules / "appliance.yml").write_text(at_once, encoding="utf-8")
    shutil.copy(rendered / "objectives.yml", rules / "objectives.yml")
    route = rendered / "alertmanager.yml"
    route.write_text(re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", route.read_text(encoding="utf-8")))
    consoles = folder / "consoles"
    consoles.mkdir()
    shutil.copy(ROOT / "roles" / "monitoring" / "files" / "appliance.html", consoles)
    commands = (
        ["prometheus-alertmanager", f"--config.file={route}", f"--storage.path={folder / 'alertmanager'}",
         f"--web.listen-address=127.0.0.1:{alertmanager_port}", "--cluster.listen-address="],
        ["prometheus", f"--config.file={rendered / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'numbers'}",
         f"--web.listen-address=127.0.0.1:{port}", f"--web.console.templates={consoles}",
         "--rules.alert.resend-delay=2s"],
    )  # fmt: skip
    processes = []
    with (folder / "monitoring.log").open("wb") as log:
        try:
            for command, place in zip(commands, (alertmanager_port, port), strict=True):
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
                wait_until(f"{command[0]} is ready", lambda place=place: _is_ready(f"http://127.0.0.1:{place}/-/ready"))
            yield Monitoring(url=f"http://127.0.0.1:{port}")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
