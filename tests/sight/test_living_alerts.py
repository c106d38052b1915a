"""An engine dies behind a real relay, a real Prometheus sees it, and a real Alertmanager tells a webhook; and back."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.relay.two_engines import CHAT, HASTY, TwoEngines
from tests.sight.living_monitoring import Monitoring, Receiver, exporter, monitoring, receiver, wait_until, why_not
from tools.ask_monitoring import PAGE, ask_everything

pytestmark = [pytest.mark.lab, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A relay before two engines, watched."""

    relay: TwoEngines
    prometheus: Monitoring
    alerts: Receiver


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sight")
    ledger = folder / "ledger"
    ledger.mkdir()
    with TwoEngines(ledger, **HASTY) as relay, receiver() as alerts:
        port = int(relay.address.rpartition(":")[2])
        with (
            exporter(ledger, relay_port=port, identities=folder / "identities") as exporter_port,
            monitoring(folder, exporter_port=exporter_port, alerts=alerts) as prometheus,
        ):
            yield Site(relay=relay, prometheus=prometheus, alerts=alerts)


def test_the_dead_mans_switch_gets_its_sign_of_life(site: Site) -> None:
    found = wait_until("the watchdog", lambda: site.alerts.alerts("/dead-man", "Watchdog"))

    assert "none" == found[0]["labels"]["severity"]
    assert [] == site.alerts.alerts("/operators", "Watchdog")


def test_what_the_relay_and_the_ledger_say_arrives_in_prometheus(site: Site) -> None:
    wait_until("the relay is seen", lambda: site.prometheus.value('up{job="relay"}') == 1)

    question = {"model": "fault", "messages": [{"role": "user", "content": "What is seen?"}], "max_tokens": 20}
    assert site.relay.ask(CHAT, {**question, "stream": True}).done
    completed = 'relay_requests_total{relay="fault",host="h1",outcome="completed"}'
    wait_until("the request", lambda: site.prometheus.value(completed) == 1)
    wait_until("its tokens", lambda: site.prometheus.value('appliance_tokens_total{team="none",kind="completion"}'))
    wait_until("its cost", lambda: site.prometheus.value('appliance_spend_total{team="none"}'))


def test_an_engine_that_dies_reaches_the_operators_and_so_does_its_return(site: Site) -> None:
    wait_until("the replica is seen", lambda: site.prometheus.value('relay_replica_serving{replica="a"}') == 1)

    site.relay.engines["a"].pause()
    told = wait_until("the alert", lambda: site.alerts.alerts("/operators", "EngineEjected"))
    site.relay.engines["a"].proceed()
    wait_until("the all-clear", lambda: site.alerts.alerts("/operators", "EngineEjected", "resolved"))

    assert ("a", "fault", "h1", "warn") == tuple(
        told[0]["labels"][one] for one in ("replica", "relay", "host", "severity")
    )
    assert "Relay fault on h1 sends nothing to a" == told[0]["annotations"]["summary"]
    assert [] == [one for one in site.alerts.alerts("/operators", "EngineEjected") if one["labels"]["replica"] == "b"]


def test_the_operators_page_comes_from_prometheus_itself(site: Site) -> None:
    page = httpx.get(f"{site.prometheus.url}/consoles/appliance.html", timeout=10, trust_env=False)

    assert (200, True) == (page.status_code, page.headers["content-type"].startswith("text/html"))
    assert page.text == PAGE.read_text(encoding="utf-8")


def test_everything_that_dashboards_page_and_alerts_ask_is_understood(site: Site) -> None:
    answers = ask_everything(site.prometheus.url)

    assert {"Engines", "Gateway", "Hardware", "Teams", "Objectives", "page", "alert", "objective"} == {
        answer.question.asker for answer in answers
    }
    assert [] == [(answer.question.title, answer.refusal) for answer in answers if answer.refusal]


def test_a_relay_that_is_gone_is_told_too(site: Site) -> None:
    site.relay.process.kill()

    told = wait_until("the alert", lambda: site.alerts.alerts("/operators", "RelayDown"))

    assert "Relay fault on h1 does not answer" == told[0]["annotations"]["summary"]
