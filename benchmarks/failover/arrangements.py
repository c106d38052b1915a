"""Arrangements: the appliance's way to the engines of this machine and what stands beside it, LiteLLM's defaults,
broken fault by fault under the same load, in one run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BadLoad
from benchmarks.failover import loopback
from benchmarks.failover.control import Control, computed, measured
from benchmarks.failover.faults import Trial
from benchmarks.failover.site import Engine, Site
from benchmarks.load import Load
from benchmarks.result import FaultResult, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.failover import Conditions, Fault, failover
from benchmarks.validity import Capacity


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Engines with what may stand before them."""

    model: str
    max_model_len: int
    key: str
    engines: Sequence[Engine]
    litellm: Path | None
    trial: Trial
    words: Sequence[str] = ()
    whole_gateway: bool = False  # LiteLLM, set as the appliance sets it, stands before the relay


def side_by_side(
    run: Runner,
    directory: Path,
    arrangement: Arrangement,
    conditions: Conditions,
    *,
    capacity: Capacity | None,
    tell: Callable[[str], None],
) -> SuiteResult:
    """Both, one after the other; the appliance is judged, the other is shown."""
    control: Control | None = None
    results = []
    for open_site in (_with_relay, _with_litellm):
        with open_site(directory, arrangement) as site:
            if site is None:
                continue
            faults = [fault for fault in site.faults if _named(fault, arrangement.words)]
            if control is None:
                faults = chosen(site.faults, arrangement.words)
                control = _control(run, conditions.load(site.target, name="failover"), arrangement)
            result = failover(
                run,
                site.target,
                faults=faults,
                conditions=conditions,
                control=control,
                books=site.books,
                arrangement=site.name,
                capacity=capacity,
                tell=lambda found: tell(line_of(found)),
            )
            results.append(result.model_copy(update={"measurements": tuple(site.meters())}))
    return joined(results)


def joined(results: Sequence[SuiteResult]) -> SuiteResult:
    """One result: the first is the appliance's."""
    first, *others = results
    late = [objection for result in others for objection in result.objections]
    notes = [f"beside, and not judged: {objection}" for objection in late]
    if not others:
        notes.append("LiteLLM's defaults were not run beside: its program is not at hand")
    return first.model_copy(
        update={
            "faults": tuple(found for result in results for found in result.faults),
            "histories": tuple(name for result in results for name in result.histories),
            "duration_seconds": sum(result.duration_seconds for result in results),
            "notes": (*first.notes, *notes),
        }
    )


@contextmanager
def _with_relay(directory: Path, given: Arrangement) -> Iterator[Site | None]:
    with loopback.relay_site(
        directory / "relay", given.engines, model=given.model, max_model_len=given.max_model_len, key=given.key,
        trial=given.trial, litellm=given.litellm if given.whole_gateway else None,
    ) as site:  # fmt: skip
        yield site


@contextmanager
def _with_litellm(directory: Path, given: Arrangement) -> Iterator[Site | None]:
    if given.litellm is None:
        yield None
        return
    once = dataclasses.replace(given.trial, repeats=1)  # it is shown, not judged
    with loopback.litellm_site(
        given.litellm, directory / "litellm", given.engines, model=given.model, key=given.key, trial=once
    ) as site:
        yield site


def _control(run: Runner, load: Load, arrangement: Arrangement) -> Control:
    if arrangement.model == loopback.FAULT_MODEL:
        return computed(load, character={"max_model_len": arrangement.max_model_len})
    return measured(run, load)


def chosen(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    """Those whose name contains one of the words; all without any."""
    found = [fault for fault in faults if _named(fault, words)]
    if not found:
        raise BadLoad(
            f"no fault is named like {', '.join(words)}; there are {', '.join(fault.name for fault in faults)}"
        )
    return found


def _named(fault: Fault, words: Sequence[str]) -> bool:
    return not words or any(word in fault.name for word in words)


def line_of(found: FaultResult) -> str:
    """One fault's result as a line of progress."""
    return (
        f"{found.arrangement}: {found.name}: {found.failed} of {found.requests} failed; {found.broken_in_flight} of "
        f"{found.in_flight} in flight broken; silence p50 {_seconds(found.gap_p50_seconds)}, "
        f"p99 {_seconds(found.gap_p99_seconds)}, longest {_seconds(found.gap_max_seconds)}; "
        f"ejected after {_seconds(found.ejected_seconds)}; {found.texts_compared} texts compared, "
        f"{found.duplicated} doubled, {found.lost_or_altered} lost or altered"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
