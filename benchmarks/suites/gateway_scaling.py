"""Gateway scaling: how many chunks per second pass through a gateway, and by how much more with more workers.

A gateway with one worker is loaded in doubling steps until it delivers less than nine tenths of what it is offered.
Then every gateway, in the order 1 N N 1 1 N ..., is offered twice that per worker, and the chunks that reach clients
in the steady window are counted: what a full gateway delivers is what it can. The same load straight at the engine
tells whether it was the gateway that was full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.delivery import delivery
from benchmarks.history import History
from benchmarks.intervals import mean_interval
from benchmarks.load import Arrivals, Load, Patience, Target, Workload
from benchmarks.result import Measurement
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook, measurement

FIRST_CHUNKS_PER_SECOND = 250.0
STEPS_MAXIMUM = 8
FULL_RATIO = 0.9
OVERLOAD = 2.0
ENGINE_RATIO = 0.9
ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How it is asked: gateways by their number of workers, the engine behind them, what each request is."""

    gateways: Mapping[int, Target]
    engine: Target
    workload: Workload
    rounds: int = 3
    seconds: float = 10.0
    warmup_seconds: float = 3.0

    def load(self, name: str, target: Target, chunks_per_second: float, *, seed: int) -> Load:
        """One run that offers so many chunks; whoever waits is let wait, for the rate is what counts."""
        rate = chunks_per_second / self.workload.output.mean_tokens
        return Load(
            name=name,
            target=target,
            arrivals=Arrivals(kind="constant", rate_per_second=rate, duration_seconds=self.seconds),
            workload=self.workload,
            patience=Patience(first_byte_seconds=self.seconds * 6, total_seconds=self.seconds * 6),
            seed=seed,
        )

    def delivered(self, history: History) -> float:
        """Tokens per second that reached clients in the steady window."""
        found = delivery(history.records, begin_seconds=self.warmup_seconds, end_seconds=self.seconds)
        return found.output_tokens_per_second


def scaling(run: Runner, book: Logbook, asked: Scaling) -> list[Measurement]:
    """Chunks per second by number of workers, per worker, and the growth."""
    counts = sorted(asked.gateways)
    rate, full = _until_full(run, book, asked, asked.gateways[counts[0]])
    if not full:
        book.notes.append(f"{counts[0]} worker: not full at {rate:.0f} chunks/s, the most that was offered")
    per_worker, rates = rate / counts[0], dict[int, list[float]]()
    for _ in range(ATTEMPTS):
        rates = _rounds(run, book, asked, per_worker)
        if all(max(rates[count]) < FULL_RATIO * OVERLOAD * per_worker * count for count in counts):
            break
        per_worker *= 2  # somebody got all that was offered, so nobody knows what more would have done
    else:
        book.notes.append("not every gateway was full: their chunks/s are lower bounds and the growth says nothing")
    offered = OVERLOAD * per_worker * counts[-1]
    straight = asked.delivered(book.add(run(asked.load("scaling-engine", asked.engine, offered, seed=1))))
    if fmean(rates[counts[-1]]) > ENGINE_RATIO * straight:
        book.notes.append(
            f"straight at the engine the same load got {straight:.0f} chunks/s: the engine or this machine was full "
            f"before {counts[-1]} workers were, so their number is a lower bound"
        )
    return _measurements(rates, straight)


def _rounds(run: Runner, book: Logbook, asked: Scaling, per_worker: float) -> dict[int, list[float]]:
    """What each gateway delivers of twice `per_worker` for each of its workers, round by round."""
    counts = sorted(asked.gateways)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(asked.rounds):
        for count in counts if number % 2 == 0 else reversed(counts):
            offered = OVERLOAD * per_worker * count
            load = asked.load(f"scaling-{count}-{number}", asked.gateways[count], offered, seed=number + 1)
            rates[count].append(asked.delivered(book.add(run(load))))
    return rates


def _until_full(run: Runner, book: Logbook, asked: Scaling, target: Target) -> tuple[float, bool]:
    """(chunks per second that a full gateway delivers, whether it was full)."""
    offered, delivered = FIRST_CHUNKS_PER_SECOND, 0.0
    for number in range(STEPS_MAXIMUM):
        for _ in range(2):  # a neighbour's burst is no limit of the gateway
            delivered = asked.delivered(book.add(run(asked.load(f"scaling-step-{number}", target, offered, seed=1))))
            if delivered >= FULL_RATIO * offered:
                break
        else:
            return delivered, True
        offered *= 2
    return delivered, False


def _measurements(rates: Mapping[int, Sequence[float]], straight: float) -> list[Measurement]:
    first, *more = sorted(rates)
    found = []
    for count in (first, *more):
        workers = f"{count} worker{'s' if count > 1 else ''}"
        found.append(measurement(f"chunks/s through {workers}", "chunks/s", mean_interval(rates[count])))
        if count > 1:
            each = mean_interval([rate / count for rate in rates[count]])
            found.append(measurement(f"chunks/s per worker of {workers}", "chunks/s", each))
    for count in more:
        growth = mean_interval([b / a for a, b in zip(rates[first], rates[count], strict=True) if a])
        found.append(measurement(f"growth from {first} to {count} workers", "ratio", growth))
    found.append(Measurement(name="the same load straight at the engine", unit="chunks/s", value=straight, count=1))
    return found
