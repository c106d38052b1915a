"""Alerts: who is told of budgets that are nearly or wholly spent, declared by the operator of one site.

It lies in `group_vars/all/alerts.yml` under the one key `alerts`, where Ansible finds it. It holds no secrets: secret
addresses (Slack's are) and the password of the mail server are in the vault.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part, read_structured_file, strings_of
from sizing.errors import DocumentError

ALERTS_KEY = "alerts"
EMAIL = "email"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Address = Annotated[str, Field(pattern=r"^[^@\s,]+@[^@\s,]+$")]


class Webhook(Part):
    """One address that is sent JSON."""

    name: Name
    format: Literal["slack", "generic"] = Field(
        default="generic", description='slack: {"text": ...}, also for Mattermost and Rocket.Chat; generic: all fields'
    )
    url: str | None = Field(
        default=None, pattern=r"^https?://[^\s/]+\S*$", description="default: vault_alert_urls.<name> of the vault"
    )
    may_be_unreachable: bool = Field(default=False, description="goes on although it does not answer now")


class Email(Part):
    """A mail server. Its password is vault_alert_email_password of the vault."""

    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._:-]+$")
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: Address
    recipients: tuple[Address, ...] = Field(min_length=1)
    user: str | None = Field(default=None, min_length=1)
    may_be_unreachable: bool = False

    @model_validator(mode="after")
    def _passwords_are_not_sent_in_the_clear(self) -> Self:
        if self.user is not None and self.security == "none":
            raise ValueError("a user with security none would send the password in the clear; use starttls or tls")
        return self


class Alerts(Document):
    """Everybody hears of soft and hard budgets of keys, teams, members and the whole gateway."""

    webhooks: tuple[Webhook, ...] = ()
    email: Email | None = None

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [webhook.name for webhook in self.webhooks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"webhook {name} is declared twice; keep one")
        if EMAIL in names:
            raise ValueError("a webhook must not be called email; rename it")
        if not names and self.email is None:
            raise ValueError("nobody is to be told; declare webhooks or email, or remove the file")
        for text in strings_of(self.model_dump(mode="json")):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} is a template; alerts are read as they stand, also without Ansible")
        return self


def load_alerts(directory: Path) -> Alerts | None:
    """The declared alerts of a site; None where nothing is declared."""
    path = directory / "group_vars" / "all" / "alerts.yml"
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {ALERTS_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {ALERTS_KEY}")
    return Alerts.parse(content[ALERTS_KEY], origin=str(path))
