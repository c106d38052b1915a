"""Who hears of budgets: webhooks (Slack's format or all fields) and email, as `alerts.json` of the role says."""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

from ledger.errors import LedgerError

SECONDS = 5.0
ANSWER_BYTES = 200


class _NowhereElse(urllib.request.HTTPRedirectHandler):
    """Python follows a redirected POST with a GET: the new place would answer 200 and have heard nothing."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """HTTPError, as for any other status."""


_OPENER = urllib.request.build_opener(_NowhereElse)


class Undelivered(Exception):
    """Why, without the address, which may hold a secret."""


class Receiver(Protocol):
    """Something that can be told."""

    @property
    def name(self) -> str: ...

    def tell(self, event: Mapping[str, Any]) -> None:
        """Raises Undelivered."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """`slack`: `{"text": ...}`, which Mattermost and Rocket.Chat take as well; `generic`: the whole event."""

    name: str
    url: str
    format: str

    def tell(self, event: Mapping[str, Any]) -> None:
        content = {"text": event["text"]} if self.format == "slack" else dict(event)
        request = urllib.request.Request(  # noqa: S310 - http or https, by the document
            self.url, json.dumps(content).encode(), {"Content-Type": "application/json", "User-Agent": "llm-appliance"}
        )
        try:
            with _OPENER.open(request, timeout=SECONDS):
                pass
        except urllib.error.HTTPError as error:
            said = error.read(ANSWER_BYTES).decode(errors="replace")
            raise Undelivered(f"status {error.code} {' '.join(said.split())}".strip()) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else type(error).__name__
            raise Undelivered(f"no answer ({reason})") from None


@dataclass(frozen=True, kw_only=True)
class Email:
    """One message to all recipients; `security`: starttls, tls or none."""

    host: str
    port: int
    security: str
    sender: str
    recipients: Sequence[str]
    user: str | None = None
    password: str | None = None
    name: str = "email"

    def tell(self, event: Mapping[str, Any]) -> None:
        message = EmailMessage()
        subject = f"[{event['gateway']}] {str(event['text']).partition(':')[0]}: {event['kind']} {event['name']}"
        message["Subject"] = " ".join(subject.split())  # a name may have lines, a header may not
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        fields = "\n".join(f"{name}: {value}" for name, value in event.items() if name != "text" and value is not None)
        message.set_content(f"{event['text']}\n\n{fields}\n")
        try:
            with self._connection() as server:
                if self.security == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self.user is not None and self.password is not None:
                    server.login(self.user, self.password)
                server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise Undelivered(f"{self.host}:{self.port}: {type(error).__name__}") from None

    def _connection(self) -> smtplib.SMTP:
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=ssl.create_default_context())
        return smtplib.SMTP(self.host, self.port, timeout=SECONDS)


def receivers_of(path: Path | None) -> tuple[Receiver, ...]:
    """Those that `alerts.json` names; none without the file."""
    if path is None or not path.exists():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        webhooks = [Webhook(**_without_waiver(webhook)) for webhook in content["webhooks"]]
        email = [Email(**_without_waiver(content["email"]))] if content.get("email") else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: {type(error).__name__}; run site.yml, which writes it") from None
    return (*webhooks, *email)


def _without_waiver(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The waiver is for the check before a change."""
    return {name: value for name, value in declared.items() if name != "may_be_unreachable"}
