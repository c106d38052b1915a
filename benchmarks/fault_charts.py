"""Fault charts: what clients felt of each fault, the appliance beside what stands next to it."""

from collections.abc import Sequence

from benchmarks.charts import BAD, LOG_FROM_RATIO, SIDES, SOFT, figure
from benchmarks.result import FaultResult

ROW_INCHES = 0.34
HEAD_INCHES = 1.0
BAR = 0.36
LEAST_SHOWN_SECONDS = 0.01


def failed_by_fault(faults: Sequence[FaultResult], *, name: str) -> str:
    """Share of all requests of the run that failed or whose answer was wrong, one bar per arrangement."""
    names, sides = _names(faults), _sides(faults)
    with figure(name, height=HEAD_INCHES + ROW_INCHES * len(names)) as (drawn, result):
        axes = drawn.subplots()
        for colour, (place, side) in zip(SIDES, enumerate(sides), strict=False):
            own = [fault for fault in faults if fault.arrangement == side]
            rows = [_row(names, fault) + BAR * ((len(sides) - 1) / 2 - place) for fault in own]
            shares = [100 * spoiled(fault) / max(fault.requests, 1) for fault in own]
            axes.barh(rows, shares, height=BAR * 0.92, color=colour, label=side)
            for row, share, fault in zip(rows, shares, own, strict=True):
                axes.annotate(
                    f"{spoiled(fault)}", (share, row), xytext=(3, 0), textcoords="offset points", va="center",
                    fontsize=7.5, color=colour,
                )  # fmt: skip
        axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(left=0)
        axes.margins(x=0.12)
        axes.set_xlabel("% failed or wrong")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return result[0]


def silence_by_fault(faults: Sequence[FaultResult], *, name: str) -> str:
    """Longest silence of the streams that ran when it struck: median to p99, with what was agreed."""
    names, sides = _names(faults), _sides(faults)
    with figure(name, height=HEAD_INCHES + ROW_INCHES * len(names)) as (drawn, result):
        axes = drawn.subplots()
        ends: list[float] = []
        for colour, (place, side) in zip(SIDES, enumerate(sides), strict=False):
            label: str | None = side
            for fault in faults:
                if fault.arrangement != side or fault.gap_p50_seconds is None or fault.gap_p99_seconds is None:
                    continue
                low, high = (max(one, LEAST_SHOWN_SECONDS) for one in (fault.gap_p50_seconds, fault.gap_p99_seconds))
                row = _row(names, fault) + BAR * ((len(sides) - 1) / 2 - place)
                axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.45)
                axes.plot([high], [row], "o", color=colour, label=label)
                label = None
                ends += [low, high]
        for agreed in {fault.name: fault for fault in faults if fault.gap_agreed_seconds is not None}.values():
            row, limit = _row(names, agreed), agreed.gap_agreed_seconds or 0.0
            axes.plot([limit, limit], [row - 0.42, row + 0.42], color=BAD, linewidth=1)
            ends.append(limit)
        if ends and max(ends) > LOG_FROM_RATIO * min(ends):
            axes.set_xscale("log")
        axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(axis="y", color=SOFT)
        axes.set_xlabel("s, p50 to p99 (dot); red: agreed")
        if ends:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return result[0]


def spoiled(fault: FaultResult) -> int:
    """Requests without a good answer: those that failed, and those whose clients were deceived."""
    return fault.failed + fault.wrong


def _names(faults: Sequence[FaultResult]) -> list[str]:
    return list(dict.fromkeys(fault.name for fault in faults))


def _sides(faults: Sequence[FaultResult]) -> list[str]:
    return list(dict.fromkeys(fault.arrangement for fault in faults))


def _row(names: Sequence[str], fault: FaultResult) -> int:
    return len(names) - 1 - names.index(fault.name)
