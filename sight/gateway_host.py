"""Gateway host: whether its gateway answers, its usage, and the pages of its relays, which listen on loopback alone."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sight.exposition import Family, Sample, text_of
from sight.serve import Page, Unavailable
from sight.usage import Price, Usage

ANSWER_SECONDS = 5.0
PAGE_BYTES_MAXIMUM = 8 * 1024**2
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ConfigurationRefused(Exception):
    """A file does not say what it must."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """`gateway.json`, as the role exporters writes it."""

    gateway_url: str
    relays: Mapping[str, int]
    ledger_configuration: Path

    @classmethod
    def load(cls, path: Path) -> Configuration:
        """Unknown and missing names are refused."""
        content = _content(path)
        try:
            return cls(
                gateway_url=content.pop("gateway_url"),
                relays={name: int(port) for name, port in content.pop("relays").items()},
                ledger_configuration=Path(content.pop("ledger_configuration")),
                **content,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationRefused(f"{path}: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Ledgers:
    """`ledger.json` of the gateway: where ledgers lie, and what a token costs. The gateway's, read here."""

    relay_directory: Path
    identity_directory: Path
    prices: Mapping[str, Price]

    @classmethod
    def load(cls, path: Path) -> Ledgers:
        """What else stands in it is for others."""
        content = _content(path)
        try:
            return cls(
                relay_directory=Path(content["relay_directory"]),
                identity_directory=Path(content["identity_directory"]),
                prices={
                    name: Price(input=float(price["input"]), output=float(price["output"]))
                    for name, price in content["prices"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationRefused(f"{path}: {type(error).__name__}: {error}") from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationRefused(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigurationRefused(f"{path}: not a JSON object")
    return content


class _UsagePage:
    """The usage of this host: begins when the gateway's file is there and follows what changes in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._usage: Usage | None = None
        self._ledgers: Ledgers | None = None
        self._read_at = -1
        self._look()

    def families(self) -> list[Family]:
        self._look()
        return [] if self._usage is None else self._usage.families()

    def _look(self) -> None:
        try:
            changed_at = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return  # the gateway is not placed yet
        if changed_at == self._read_at:
            return
        found = Ledgers.load(self._path)
        places = (found.relay_directory, found.identity_directory)
        before = self._ledgers
        if self._usage is None or before is None or (before.relay_directory, before.identity_directory) != places:
            self._usage = Usage(relay_directory=places[0], identity_directory=places[1], prices=found.prices)
        self._usage.prices = found.prices
        self._ledgers, self._read_at = found, changed_at


def pages_of(configuration: Configuration) -> dict[str, Page]:
    """`/metrics`, and `/relay/<group>` for each relay."""
    usage = _UsagePage(configuration.ledger_configuration)

    def metrics() -> str:
        try:
            return text_of([*usage.families(), *_gateway(configuration.gateway_url)])
        except ConfigurationRefused as error:
            raise Unavailable(str(error)) from None

    relays = {f"/relay/{group}": partial(_relay, group, port) for group, port in configuration.relays.items()}
    return {"/metrics": metrics, **relays}


def _relay(group: str, port: int) -> str:
    try:
        with _DIRECT.open(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_SECONDS) as answer:
            body: bytes = answer.read(PAGE_BYTES_MAXIMUM)
    except (OSError, ValueError) as error:
        raise Unavailable(f"relay {group} does not answer at 127.0.0.1:{port}: {error}") from None
    return body.decode("utf-8", "replace")


def _gateway(url: str) -> list[Family]:
    """LiteLLM answers 200 while its database is away; the body tells."""
    begun = time.monotonic()
    status, database = 0, False
    try:
        with _DIRECT.open(f"{url}/health/readiness", timeout=ANSWER_SECONDS) as answer:
            status = answer.status
            content = json.loads(answer.read(PAGE_BYTES_MAXIMUM))
            database = isinstance(content, dict) and content.get("db") == "connected"
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError):
        pass  # it is not there, which is the answer
    seconds = time.monotonic() - begun
    return [
        _gauge("appliance_gateway_ready", "1 when the gateway says that it is ready", float(status == 200)),  # noqa: PLR2004
        _gauge("appliance_gateway_database_connected", "1 when the gateway has its database", float(database)),
        _gauge("appliance_gateway_answer_seconds", "How long its answer took", seconds),
    ]


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name=name, kind="gauge", help=text, samples=[Sample(value=value)])
