"""Crowd: many requests at once, one fault in their midst, every answer held against what is right.

The relay's own log tells which requests met the fault; the client's clock tells how long each of them was silent.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import Any, Self

from benchmarks.failover.questions import Question, used
from benchmarks.failover.relay_process import RelayProcess
from benchmarks.listening import Heard, ask
from benchmarks.suites.failover import Fault

POLL_SECONDS = 0.05
BAD_KEPT = 5
SETTLE_SECONDS = 10.0


@dataclass(kw_only=True)
class Round:
    """One fault, struck once. Plain values: a chain of bounded runs adds up."""

    fault: str
    subject: str  # the model that was served
    gap_limit_seconds: float
    at: float = field(default_factory=time)
    struck_seconds: float = 0.0  # from the first request on
    requests: int = 0
    new: int = 0  # of these, how many came after the fault had struck
    new_failed: int = 0
    in_flight: int = 0  # when it struck
    met: int = 0  # requests of which a leg met a fault, as the relay's log says
    met_streaming: int = 0  # of these, streams that had already said something
    compared: int = 0
    bad: int = 0  # answers that are not right, for whatever reason
    failed: int = 0  # of these, how many did not end well
    bad_met: int = 0
    families: dict[str, int] = field(default_factory=dict)  # of those that met it
    gaps: list[float] = field(default_factory=list)  # of met_streaming, where the answer was continued
    replayed_gaps: list[float] = field(default_factory=list)  # where it was replayed: as long as making it took
    first_bad: list[str] = field(default_factory=list)
    ejected_seconds: float | None = None
    mended_seconds: float = 0.0
    relay_cpu_share: float = 0.0  # of a core, while the crowd was there
    relay_memory_mib: float = 0.0
    load_average: float = 0.0

    def write(self, path: Path) -> None:
        """One line of JSON more."""
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> list[Self]:
        """Earlier rounds."""
        return [cls(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass(kw_only=True)
class Crowd:
    """A relay, and how crowds are sent through it."""

    relay: RelayProcess
    key: str
    subject: str
    spread_seconds: float  # requests start evenly over this
    requests_sent: int = 0
    used_tokens: dict[str, tuple[int, int]] = field(default_factory=dict)  # by request id, as clients were told

    async def undisturbed(self, asked: Sequence[Question]) -> list[Heard]:
        """The same crowd without a fault."""
        _, heard = await self._sent(asked)
        return heard

    async def round(self, asked: Sequence[Question], fault: Fault, *, strike_seconds: float) -> Round:
        """The crowd, the fault, and what came of it; mended afterwards."""
        found = Round(fault=fault.name, subject=self.subject, gap_limit_seconds=fault.gap_seconds or 0.0)
        before, cpu, begun = len(self.relay.log()), self.relay.cpu_seconds, perf_counter()
        struck: list[float] = []

        async def strike() -> None:
            await asyncio.sleep(strike_seconds)
            await asyncio.to_thread(fault.inject)  # looks for the busiest engine first, which takes its time
            struck.append(perf_counter())
            found.ejected_seconds = await _until_ejected(fault)

        striking = asyncio.create_task(strike())
        identities, heard = await self._sent(asked)
        found.relay_cpu_share = round((self.relay.cpu_seconds - cpu) / (perf_counter() - begun), 3)
        found.relay_memory_mib = round(self.relay.memory_bytes / 2**20, 1)
        found.load_average = round(os.getloadavg()[0], 1)
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)
        mending = monotonic()
        await asyncio.to_thread(fault.heal)
        found.mended_seconds = round(monotonic() - mending, 1)
        found.struck_seconds = round(struck[0] - begun, 2) if struck else -1.0
        lines = self.relay.log()[before:]
        met = {line["request"] for line in lines if line["event"] == "fault"}
        replayed = {line["request"] for line in lines if line["event"] == "resumed" and line["how"] == "replay"}
        _judge(
            found, asked, identities, heard, met=met, replayed=replayed, struck=struck[0] if struck else float("inf")
        )
        return found

    async def _sent(self, asked: Sequence[Question]) -> tuple[list[str], list[Heard]]:
        pause = self.spread_seconds / max(1, len(asked))
        running, identities = [], []
        begun = perf_counter()
        for number, question in enumerate(asked):
            await asyncio.sleep(max(0.0, begun + number * pause - perf_counter()))
            self.requests_sent += 1
            identities.append(f"crowd-{os.getpid()}-{self.requests_sent}")
            sending = ask(self.relay.port, question.path, question.body, key=self.key, x_request_id=identities[-1])
            running.append(asyncio.create_task(sending))
        heard = await asyncio.gather(*running)
        self.used_tokens |= {
            identity: used(one) for identity, one in zip(identities, heard, strict=True) if one.done and one.usage
        }
        return identities, heard

    async def books_differ(self) -> list[str]:
        """Request ids of which the relay's ledger says something else than the client was told."""
        deadline = monotonic() + SETTLE_SECONDS
        while True:
            entries = self.relay.entries()
            differing = [one for one, tokens in self.used_tokens.items() if entries.get(one) != tokens]
            if not differing or monotonic() > deadline:
                return differing
            await asyncio.sleep(POLL_SECONDS)


async def _until_ejected(fault: Fault) -> float | None:
    """Seconds until the relay sent nothing there any more."""
    begun = monotonic()
    while fault.ejected is not None:
        if await asyncio.to_thread(fault.ejected):
            return round(monotonic() - begun, 2)
        await asyncio.sleep(POLL_SECONDS)
    return None


def _judge(
    found: Round,
    asked: Sequence[Question],
    identities: Sequence[str],
    heard: Sequence[Heard],
    *,
    met: set[Any],
    replayed: set[Any],
    struck: float,
) -> None:
    for question, identity, one in zip(asked, identities, heard, strict=True):
        found.requests += 1
        defect = question.defect_of(one)
        found.compared += question.text is not None
        found.bad += bool(defect)
        found.failed += not one.done
        if defect and len(found.first_bad) < BAD_KEPT:
            found.first_bad.append(f"{identity}, {question.family}, {question.path}: {defect}")
        if one.begun >= struck:
            found.new += 1
            found.new_failed += not one.done
        elif one.ended > struck:
            found.in_flight += 1
        if identity not in met:
            continue
        found.met += 1
        found.bad_met += bool(defect)
        found.families[question.family] = found.families.get(question.family, 0) + 1
        if one.begun < struck and one.times and one.times[0] <= struck:
            found.met_streaming += 1
            (found.replayed_gaps if identity in replayed else found.gaps).append(round(one.silence(struck), 4))
