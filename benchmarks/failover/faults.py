"""Faults by name. Each takes engines in turn, so that repeats wear out none; what may be felt stands beside the action.

A crash is noticed at once, a silence only when the stall timer says so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

from benchmarks.failover.site import Engine, eventually
from benchmarks.failover.vllm_process import API_SERVER, ENGINE_CORE, WORKER, VllmProcess
from benchmarks.fault_engine.process import FaultProcess
from benchmarks.suites.failover import Fault

CRASH_GAP_SECONDS = 1.0
AFTER_STALL_SECONDS = 1.0
BACK_SECONDS = 60.0
TOLD = {  # fault of the fault engine -> (name in the report, is it silence?)
    "500": ("HTTP 500", False),
    "503": ("HTTP 503", False),
    "429": ("HTTP 429", False),
    "slow": ("slow by 10x", True),
    "cut": ("stream cut", False),
    "stall": ("stream stall", True),
    "error_event": ("error event followed by [DONE]", False),
    "false_end": ("[DONE] without a finish reason", False),
    "mute": ("mute before the first byte", True),
    "reset": ("connection reset", False),
    "hang": ("hang of everything", True),
}
Kind = TypeVar("Kind", bound=Engine)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How faults are tried, whatever they are."""

    stall_seconds: float
    repeats: int = 1
    ejected: Callable[[Engine], bool] | None = None  # as the relay sees it
    outstanding: Callable[[Engine], int] | None = None  # requests that it has there


class Victims(list[Kind]):
    """Engines in turn, or the busiest where that is known: prompts return to the engine that has their cache, so that
    the other may have none to lose. `current` is the one that is broken now."""

    def __init__(self, engines: Sequence[Kind], outstanding: Callable[[Engine], int] | None) -> None:
        super().__init__(engines)
        self._outstanding = outstanding
        self._turn: Iterator[Kind] = cycle(engines)
        self.current = engines[0]

    def following(self) -> Kind:
        """The next one."""
        self.current = next(self._turn) if self._outstanding is None else max(self, key=self._outstanding)
        return self.current


def faults_of(engines: Sequence[Engine], trial: Trial) -> list[Fault]:
    """Everything that can be done to engines of this kind."""
    real = [engine for engine in engines if isinstance(engine, VllmProcess)]
    told = [engine for engine in engines if isinstance(engine, FaultProcess)]
    if real:
        return [*_kills(real, trial), _stop(real, trial)]
    return [
        _fault("engine killed (kill -9)", told, trial, break_it=FaultProcess.kill, mend_it=FaultProcess.restart),
        _stop(told, trial),
        *(_told(name, told, trial) for name in TOLD),
    ]


def _kills(engines: Sequence[VllmProcess], trial: Trial) -> list[Fault]:
    def kill(part: str) -> Fault:
        def act(engine: VllmProcess) -> None:
            engine.kill_part(part)

        name = f"{part.removeprefix('VLLM::')} killed (kill -9)"
        return _fault(name, engines, trial, break_it=act, mend_it=VllmProcess.restart)

    return [kill(part) for part in (API_SERVER, ENGINE_CORE, WORKER)]


def _stop(engines: Sequence[Kind], trial: Trial) -> Fault:
    return _fault(
        "engine stopped (SIGSTOP)",
        engines,
        trial,
        break_it=lambda engine: engine.pause(),
        mend_it=lambda engine: engine.proceed(),
        silent=True,
    )


def _told(name: str, engines: Sequence[FaultProcess], trial: Trial) -> Fault:
    title, silent = TOLD[name]
    return _fault(
        title,
        engines,
        trial,
        break_it=lambda engine: engine.control.inject(name),
        mend_it=lambda engine: engine.control.heal(),
        silent=silent,
    )


def _fault(
    name: str,
    engines: Sequence[Kind],
    trial: Trial,
    *,
    break_it: Callable[[Kind], None],
    mend_it: Callable[[Kind], None],
    silent: bool = False,
) -> Fault:
    victims, ejected = Victims(engines, trial.outstanding), trial.ejected

    def mend() -> None:
        """Also waits until the relay has found out, so that the next run begins with all engines."""
        victim = victims.current
        mend_it(victim)
        if ejected is not None:
            eventually(f"{victim.name} serves again", lambda: not ejected(victim), within_seconds=BACK_SECONDS)

    return Fault(
        name=name,
        inject=lambda: break_it(victims.following()),
        heal=mend,
        gap_seconds=trial.stall_seconds + AFTER_STALL_SECONDS if silent else CRASH_GAP_SECONDS,
        repeats=trial.repeats,
        ejected=None if ejected is None else lambda: ejected(victims.current),
    )
