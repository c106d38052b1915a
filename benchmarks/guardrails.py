"""Times each guardrail on texts of 200, 2,000 and 20,000 characters, on their way in and as streams on their way out.

`python -m benchmarks guardrails` starts the service with the packages of its lock (`make artifacts`) and asks it as the
gateway does. In: one question with the whole text, there and back. Out: the text in pieces of four characters (about a
token) through the same masks as a stream, all that they take together. Korean and English prose in which every 200th
character or so begins something to find.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.errors import BadLoad
from benchmarks.failover.litellm_program import locked_venv
from benchmarks.null_process import ROOT
from guard.rules import Rule, Rules
from guard.spans import Span
from guard.stream import StreamMask
from guard.wire import ask

LOCK = ROOT / "roles" / "guard" / "files" / "requirements-guard.txt"
LENGTHS = (200, 2_000, 20_000)
PIECE_CHARACTERS = 4
START_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
PROSE = (
    "회의는 오후 세 시에 시작했고, 담당자는 지난 분기의 결과를 차분히 설명했다. "
    "The team agreed to move the release by one week, since two of the checks had not been finished. "
    "궁금한 점은 {} 로 연락해 달라고 했다. Everything else stays as planned. "
)
FOUND = ("010-1234-5678", "kim.hong@corp.co.kr", "900101-1234568", "4111 1111 1111 1111", "신한은행 110-123-456789")
CUSTOM = "def find(text, role):\n    return [(0, 5, 'HELLO')] if text.startswith('Hello') else []\n"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One guardrail at one length."""

    rule: str
    characters: int
    in_least_ms: float
    in_ms: float
    in_worst_ms: float
    out_ms: float | None
    out_asks: int


def prose(characters: int) -> str:
    """Text of exactly that length."""
    pieces, length, turn = [], 0, 0
    while length < characters:
        piece = PROSE.format(FOUND[turn % len(FOUND)])
        pieces.append(piece)
        length, turn = length + len(piece), turn + 1
    return "".join(pieces)[:characters]


def rules(directory: Path) -> list[dict[str, Any]]:
    """One of each kind."""
    (directory / "custom.py").write_text(CUSTOM, encoding="utf-8")
    both = {"directions": ["in", "out"], "timeout_seconds": PATIENCE_SECONDS}
    entities = ["KR_RRN", "PHONE", "CARD", "BANK_ACCOUNT", "EMAIL"]
    hundred = [f"code-name-{number}" for number in range(100)]
    return [
        {"name": "personal_data", "kind": "personal_data", "entities": entities, **both},
        {
            "name": "personal_data with US_SSN, IBAN_CODE of Presidio",
            "kind": "personal_data",
            "entities": entities,
            "presidio": ["US_SSN", "IBAN_CODE"],
            **both,
        },
        {
            "name": "words (100 words, 1 pattern)",
            "kind": "words",
            "words": hundred,
            "patterns": [r"\bHRN-\d{4}\b"],
            **both,
        },
        {"name": "injection", "kind": "injection", "action": "block", "timeout_seconds": PATIENCE_SECONDS},
        {
            "name": "custom (a function that does nothing)",
            "kind": "custom",
            "file": str(directory / "custom.py"),
            **both,
        },
    ]


async def measure(declared: Rules, rule: Rule, characters: int, *, times: int) -> Cost:
    """A few times each; the first of all is not counted."""
    text, took = prose(characters), []
    for _ in range(times + 1):
        begun = time.perf_counter()
        await ask(declared.socket, rule=rule.name, texts=[("user", text)], seconds=PATIENCE_SECONDS)
        took.append((time.perf_counter() - begun) * 1000)
    out, asks = await _stream(declared, rule, text) if "out" in rule.directions else (None, 0)
    return Cost(
        rule=rule.name,
        characters=characters,
        in_least_ms=min(took[1:]),
        in_ms=statistics.median(took[1:]),
        in_worst_ms=max(took[1:]),
        out_ms=out,
        out_asks=asks,
    )


async def _stream(declared: Rules, rule: Rule, text: str) -> tuple[float, int]:
    asks = 0

    async def find(window: str) -> Sequence[Span]:
        nonlocal asks
        asks += 1
        return (await ask(declared.socket, rule=rule.name, texts=[("assistant", window)], seconds=PATIENCE_SECONDS))[0]

    mask = StreamMask(find, rule.hold)
    begun = time.perf_counter()
    for at in range(0, len(text), PIECE_CHARACTERS):
        await mask.feed(text[at : at + PIECE_CHARACTERS])
    await mask.finish()
    return (time.perf_counter() - begun) * 1000, asks


@contextmanager
def service(python: Path, config: Path, socket: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The service while the block runs, and the seconds until it answered."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    begun = time.monotonic()
    process = subprocess.Popen([str(python), "-m", "guard", "serve", "--config", str(config)], env=environment)
    try:
        while not socket.exists():
            if process.poll() is not None or time.monotonic() - begun > START_SECONDS:
                raise BadLoad(f"the guardrails' service did not start (status {process.poll()})")
            time.sleep(0.02)
        yield process, time.monotonic() - begun
    finally:
        process.terminate()
        process.wait(timeout=120)


def memory_mib(process: int) -> tuple[float, float]:
    """Of the service: its parent alone (RSS), and what all processes hold together (PSS)."""
    own = _smaps(process, "Rss")
    children = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return own, _smaps(process, "Pss") + sum(_smaps(child, "Pss") for child in children)


def _smaps(process: int, name: str) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def guardrails_command(
    times: Annotated[int, typer.Option(min=1, help="How often each question is asked.")] = 9,
    processes: Annotated[int, typer.Option(min=1, help="Of the service.")] = 2,
) -> None:
    """What each guardrail costs a request and an answer, in milliseconds, by length; memory and start."""
    venv = locked_venv(LOCK, "the guardrails", lambda line: typer.echo(line, err=True))
    if venv is None:
        raise BadLoad(f"the wheels of {LOCK.name} are not at hand, or there is no Python 3.11; run `make artifacts`")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="guardrails-") as name:
        directory = Path(name)
        config = directory / "guardrails.json"
        content = {
            "socket": str(directory / "s"),
            "processes": processes,
            "unreadable": "refuse",
            "rules": rules(directory),
        }
        config.write_text(json.dumps(content), encoding="utf-8")
        declared = Rules.load(config)
        with service(venv / "bin" / "python", config, declared.socket) as (process, seconds):
            idle = memory_mib(process.pid)
            costs = [
                asyncio.run(measure(declared, rule, length, times=times))
                for rule in declared.rules
                for length in LENGTHS
            ]
            busy = memory_mib(process.pid)
    typer.echo(
        "| guardrail | characters | request ms, least | median | worst | stream ms in all | ms a piece | questions |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|")
    for cost in costs:
        typer.echo(row(cost))
    typer.echo(
        f"\nService: ready after {seconds:.1f} s; parent {idle[0]:.0f} MiB; {processes} processes {idle[1]:.0f} MiB "
        f"idle, {busy[1]:.0f} MiB after these questions. "
        f"Load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    )


def row(cost: Cost) -> str:
    """Of the table."""
    out, piece = "-", "-"
    if cost.out_ms is not None:
        out, piece = f"{cost.out_ms:.1f}", f"{cost.out_ms / (cost.characters / PIECE_CHARACTERS):.3f}"
    asked = f"{cost.in_least_ms:.2f} | {cost.in_ms:.2f} | {cost.in_worst_ms:.2f}"
    return f"| {cost.rule} | {cost.characters:,} | {asked} | {out} | {piece} | {cost.out_asks} |"
