#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: asks whether the receivers of alerts answer, as seen from the host it runs on. Changes nothing."""

from __future__ import annotations

import http.client
import smtplib
import ssl
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: alert_receivers
short_description: Ask whether webhooks and the mail server of alerts answer
description:
  - A webhook answers when it speaks HTTP; nothing is posted. A mail server answers when it says hello, encrypts as
    declared and takes the password; nothing is mailed.
  - What does not answer fails the task in one line, unless its C(may_be_unreachable) says otherwise; then it warns.
options:
  webhooks: {type: list, elements: dict, required: true, description: "Of each name, url, may_be_unreachable."}
  email: {type: dict, description: "host, port, security, user, password, may_be_unreachable."}
  timeout_seconds: {type: int, default: 10, description: Limit for one receiver.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Ask the receivers of alerts
  alert_receivers:
    webhooks: [{name: chat, url: "{{ vault_alert_urls.chat }}", may_be_unreachable: false}]
"""
RETURN = r"""
unreachable_names: {returned: always, type: list, elements: str, description: Those that are waived.}
"""
# Only addresses and the password are secret: names and places stand in the message.
ARGUMENTS = {
    "webhooks": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True, "no_log": True},
            "format": {"type": "str"},
            "may_be_unreachable": {"type": "bool", "default": False},
        },
    },
    "email": {
        "type": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "security": {"type": "str", "required": True},
            "sender": {"type": "str"},
            "recipients": {"type": "list", "elements": "str"},
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "may_be_unreachable": {"type": "bool", "default": False},
        },
    },
    "timeout_seconds": {"type": "int", "default": 10},
}
HTTP_SCHEMES = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


def fault_of_webhook(url: str, *, timeout_seconds: float) -> str | None:
    """Why it does not answer, without the path, which may be a secret; None where it speaks HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in HTTP_SCHEMES or not parts.hostname:
        return "it has no address that begins with http:// or https://"
    place = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    connection = HTTP_SCHEMES[parts.scheme](parts.hostname, parts.port, timeout=timeout_seconds)
    try:
        connection.request("HEAD", parts.path or "/", headers={"User-Agent": "llm-appliance"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        return f"{place} does not answer ({_reason(error)})"
    finally:
        connection.close()
    return None


def fault_of_email(email: dict[str, Any], *, timeout_seconds: float) -> str | None:
    """Why it would not take a message; None where it would."""
    place = f"{email['host']}:{email['port']}"
    try:
        if email["security"] == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                email["host"], email["port"], timeout=timeout_seconds, context=context
            )
        else:
            server = smtplib.SMTP(email["host"], email["port"], timeout=timeout_seconds)
        with server:
            if email["security"] == "starttls":
                server.starttls(context=ssl.create_default_context())
            if email.get("user") and email.get("password"):
                server.login(email["user"], email["password"])
            server.noop()
    except smtplib.SMTPAuthenticationError:
        return f"{place} does not take the password of {email['user']}"
    except (OSError, smtplib.SMTPException) as error:
        return f"{place} does not answer as declared ({_reason(error)})"
    return None


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def ask(given: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(faults that count, faults that are waived), each with its receiver's name first."""
    asked = [
        (webhook["name"], webhook, fault_of_webhook(webhook.get("url") or "", timeout_seconds=given["timeout_seconds"]))
        for webhook in given["webhooks"]
    ]
    if given.get("email"):
        fault = fault_of_email(given["email"], timeout_seconds=given["timeout_seconds"])
        asked.append(("email", given["email"], fault))
    faults: list[str] = []
    waived: list[str] = []
    for name, declared, fault in asked:
        if fault is not None:
            (waived if declared.get("may_be_unreachable") else faults).append(f"{name}: {fault}")
    return faults, waived


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    faults, waived = ask(module.params)
    for fault in waived:
        module.warn(f"receiver of alerts {fault}; alerts.yml says that it may")
    if faults:
        more = "; ".join(faults)
        module.fail_json(
            msg=f"Receiver of alerts {more}. Correct alerts.yml or the vault, or set may_be_unreachable: true there"
        )
    module.exit_json(changed=False, unreachable_names=[fault.partition(":")[0] for fault in waived])


if __name__ == "__main__":
    main()
