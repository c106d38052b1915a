"""Faults by name. Each takes engines in turn, so that repeats wear out none; expectations stand beside the action.

What a stream may feel: a crash is noticed at once, silence only when the stall timer says so.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from benchmarks.failover.site import Engine
from benchmarks.fault_engine.process import FaultControl
from benchmarks.suites.failover import Fault

CRASH_GAP_SECONDS = 1.0
AFTER_STALL_SECONDS = 1.0
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


class Victims:
    """Engines in turn; the one that is broken now."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._turn: Iterator[Engine] = cycle(engines)
        self.current = engines[0]

    def following(self) -> Engine:
        """The next one."""
        self.current = next(self._turn)
        return self.current


def signal_faults(
    engines: Sequence[Engine],
    *,
    stall_seconds: float,
    repeats: int,
    ejected: Callable[[Engine], bool] | None = None,
) -> list[Fault]:
    """What the kernel can do to an engine."""
    return [
        _fault(
            "engine killed (kill -9)",
            Victims(engines),
            break_it=lambda engine: engine.kill(),
            mend_it=lambda engine: engine.restart(),
            gap_seconds=CRASH_GAP_SECONDS,
            repeats=repeats,
            ejected=ejected,
        ),
        _fault(
            "engine stopped (SIGSTOP)",
            Victims(engines),
            break_it=lambda engine: engine.pause(),
            mend_it=lambda engine: engine.proceed(),
            gap_seconds=stall_seconds + AFTER_STALL_SECONDS,
            repeats=repeats,
            ejected=ejected,
        ),
    ]


def told_faults(
    engines: Sequence[Engine],
    control_of: Callable[[Engine], FaultControl],
    *,
    stall_seconds: float,
    repeats: int,
    ejected: Callable[[Engine], bool] | None = None,
) -> list[Fault]:
    """What only a fault engine can be told to do."""

    def one(name: str) -> Fault:
        title, silent = TOLD[name]
        return _fault(
            title,
            Victims(engines),
            break_it=lambda engine: control_of(engine).inject(name),
            mend_it=lambda engine: control_of(engine).heal(),
            gap_seconds=stall_seconds + AFTER_STALL_SECONDS if silent else CRASH_GAP_SECONDS,
            repeats=repeats,
            ejected=ejected,
        )

    return [one(name) for name in TOLD]


def _fault(
    name: str,
    victims: Victims,
    *,
    break_it: Callable[[Engine], None],
    mend_it: Callable[[Engine], None],
    gap_seconds: float,
    repeats: int,
    ejected: Callable[[Engine], bool] | None,
) -> Fault:
    return Fault(
        name=name,
        inject=lambda: break_it(victims.following()),
        heal=lambda: mend_it(victims.current),
        gap_seconds=gap_seconds,
        repeats=repeats,
        ejected=None if ejected is None else lambda: ejected(victims.current),
    )
