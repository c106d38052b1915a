"""Who is told of budgets: what may be declared, receivers that do not answer before a change, advice to clients."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sizing.alerts import Alerts, load_alerts
from sizing.documents import read_structured_file
from sizing.errors import DocumentError
from tests.alert_listeners import HttpListener, MailListener, serving
from tests.prisma_engine.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
MAIL: dict[str, Any] = {"host": "mail.example.com", "sender": "llm@example.com", "recipients": ["ops@example.com"]}


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def receivers() -> ModuleType:
    return loaded(ROOT / "plugins" / "modules" / "alert_receivers.py")


@pytest.fixture(scope="module")
def advice() -> ModuleType:
    return loaded(ROOT / "roles" / "gateway" / "files" / "budget_advice.py")


def test_the_example_is_a_document() -> None:
    example = ROOT / "inventories" / "example" / "group_vars" / "all" / "alerts.yml.example"
    content = read_structured_file(example)
    assert isinstance(content, dict)

    alerts = Alerts.parse(content["alerts"], origin="example")

    assert ["ops-chat", "desk"] == [webhook.name for webhook in alerts.webhooks]
    assert alerts.email is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "nobody is to be told"),
        ({"webhooks": [{"name": "a"}, {"name": "a"}]}, "webhook a is declared twice"),
        ({"webhooks": [{"name": "email"}]}, "must not be called email"),
        ({"webhooks": [{"name": "a", "url": "ftp://x/y"}]}, "url: String should match pattern"),
        ({"webhooks": [{"name": "a", "format": "teams"}]}, "format: Input should be 'slack' or 'generic'"),
        ({"webhooks": [{"name": "a", "password": "x"}]}, "password: Extra inputs are not permitted"),
        ({"email": {**MAIL, "recipients": []}}, "recipients: Tuple should have at least 1 item"),
        ({"email": {**MAIL, "recipients": ["nobody"]}}, "recipients.0: String should match pattern"),
        ({"email": {**MAIL, "user": "u", "security": "none"}}, "would send the password in the clear"),
        ({"webhooks": [{"name": "a", "url": "http://{{host}}/x"}]}, "is a template"),
    ],
)
def test_what_nobody_can_mean_is_one_line(content: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Alerts.parse(content, origin="alerts.yml")

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_site_without_alerts_tells_nobody(tmp_path: Path) -> None:
    assert load_alerts(tmp_path) is None
    (tmp_path / "group_vars" / "all").mkdir(parents=True)
    (tmp_path / "group_vars" / "all" / "alerts.yml").write_text("webhooks: []\n", encoding="utf-8")
    with pytest.raises(DocumentError, match="expected the single top-level key alerts"):
        load_alerts(tmp_path)


def test_receivers_that_answer_are_no_fault_whatever_they_answer(receivers: ModuleType) -> None:
    with serving(HttpListener()) as http, serving(MailListener()) as mail:
        email = {"host": "127.0.0.1", "port": mail.port, "security": "none", "user": None}

        found = receivers.ask(
            {"webhooks": [{"name": "chat", "url": http.url}], "email": email, "timeout_seconds": 5}
        )  # the listener says 405 to HEAD

        assert ([], []) == found
        assert [] == http.posted
        assert [] == mail.received


def test_an_unreachable_webhook_is_one_line_without_its_secret_and_can_be_waived(receivers: ModuleType) -> None:
    port = free_port()
    hook = {"name": "chat", "url": f"http://127.0.0.1:{port}/services/secret"}
    mail = {"host": "127.0.0.1", "port": port, "security": "starttls", "user": "u", "password": "p"}

    faults, waived = receivers.ask({"webhooks": [hook], "email": mail, "timeout_seconds": 5})
    none, both = receivers.ask(
        {
            "webhooks": [hook | {"may_be_unreachable": True}],
            "email": mail | {"may_be_unreachable": True},
            "timeout_seconds": 5,
        }
    )

    assert [
        f"chat: 127.0.0.1:{port} does not answer (Connection refused)",
        f"email: 127.0.0.1:{port} does not answer as declared (Connection refused)",
    ] == faults
    assert ([], []) == (waived, none)
    assert faults == both


def test_a_mail_server_without_the_declared_encryption_is_a_fault(receivers: ModuleType) -> None:
    with serving(MailListener()) as mail:
        email = {"host": "127.0.0.1", "port": mail.port, "security": "starttls", "user": None}

        faults, _ = receivers.ask({"webhooks": [], "email": email, "timeout_seconds": 5})

        assert 1 == len(faults)
        assert "STARTTLS" in faults[0]


def test_a_client_hears_when_its_budget_starts_anew_and_whom_to_ask(advice: ModuleType) -> None:
    moment = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)

    more = advice.advice(entity="key", key_alias="search-prod", resets_at=moment)
    message = advice.with_advice("Budget has been exceeded! Current cost: 3.0, Max budget: 2.0", more)

    assert (
        "Budget has been exceeded! Current cost: 3.0, Max budget: 2.0. Nothing was sent to a model. It starts anew at "
        "2026-12-01 00:00 UTC. To go on before, ask your operators to raise the budget of key search-prod."
    ) == message
    assert message == advice.with_advice(message, more)
    assert "the team of this key" in advice.advice(entity="team", key_alias="k", resets_at=moment)


def test_the_preflight_says_it_in_one_line_and_names_a_missing_secret(tmp_path: Path) -> None:
    port = free_port()
    secret = f"http://127.0.0.1:{port}/services/T0/B0/hidden"

    unreachable = _preflight(tmp_path, {"webhooks": [{"name": "chat"}]}, vault_alert_urls={"chat": secret})
    without = _preflight(tmp_path, {"webhooks": [{"name": "chat"}]})

    assert f"Receiver of alerts chat: 127.0.0.1:{port} does not answer (Connection refused). Correct alerts.yml" in (
        " ".join(unreachable.split())
    )
    assert "hidden" not in unreachable
    assert "alerts.yml: no address for chat; add it to the webhook as url, or to the vault" in " ".join(without.split())


def _preflight(directory: Path, alerts: dict[str, Any], **vault: Any) -> str:
    """What playbooks/tasks/check_alerts.yml says where it must end with a failure."""
    (directory / "templates").unlink(missing_ok=True)
    (directory / "templates").symlink_to(ROOT / "playbooks" / "templates")
    task = {"ansible.builtin.import_tasks": str(ROOT / "playbooks" / "tasks" / "check_alerts.yml")}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}]
    (directory / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    variables = {"alerts": alerts, "ansible_python_interpreter": sys.executable, **vault}
    (directory / "variables.json").write_text(json.dumps(variables), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "--check"),
            *("-e", f"@{directory / 'variables.json'}", str(directory / "play.yml")),
        ],
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(directory / "tmp")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr
