"""Report page: one self-contained HTML file from plan and report, with the geometry of its pictures worked out here.

No script, no font, no image from outside: the page can be mailed, printed and kept for years.
"""

from dataclasses import dataclass
from datetime import datetime

from sizing.page_figures import BAR_WIDTH, Part
from sizing.page_template import page_template
from sizing.plan import Engine, Plan
from sizing.report import CallSeen, Check, EngineSeen, Report
from sizing.report_summary import GROUPS
from sizing.units import gib_text

ROW_HEIGHT = 76
TOPOLOGY_TOP = 12
BOX_HEIGHT = 58
GATEWAY_HEAD = 44
GATEWAY_ROW = 34

HAIRLINE_WIDTH = 4.0
"""A part too small to be seen is drawn this wide, so that the eye finds what the legend names."""


@dataclass(frozen=True, kw_only=True)
class MemoryBar:
    """The planned memory of one engine."""

    subject: str
    model: str
    device: str
    requested: str
    usable: str
    usable_width: float
    segments: tuple[Part, ...]
    tokens: str
    concurrency: str
    resident: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """An engine in the picture of the site."""

    subject: str
    model: str
    address: str
    window: str
    figures: str
    verdict: str
    y: int
    middle: int


@dataclass(frozen=True, kw_only=True)
class CallRow:
    """One call in the table of timings; widths in percent of the slowest."""

    model: str
    kind: str
    status: str
    verdict: str
    served_by: str
    tokens: str
    first_token: str
    seconds: str
    first_token_width: float
    width: float


@dataclass(frozen=True, kw_only=True)
class CheckGroup:
    """The checks of one group."""

    title: str
    checks: tuple[Check, ...]

    @property
    def failed_count(self) -> int:
        """How many of them do not hold."""
        return sum(check.verdict == "fail" for check in self.checks)


def render_page(plan: Plan, report: Report) -> str:
    """The page, as HTML."""
    nodes = _nodes(plan, report)
    return page_template("report.html.j2").render(
        plan=plan,
        report=report,
        observed_at=_moment_text(report.observed_at),
        digest=plan.digest().removeprefix("sha256:"),
        nodes=nodes,
        topology_height=_topology_height(plan, nodes),
        box_height=BOX_HEIGHT,
        gateway_head=GATEWAY_HEAD,
        gateway_row=GATEWAY_ROW,
        gateway_verdict=_verdict_of(report, ("gateway", "model"), set()),
        bars=_bars(plan, report),
        bar_width=BAR_WIDTH,
        legend=_legend(plan),
        calls=_calls(report),
        groups=_groups(report),
        kv_tokens=sum(engine.kv_cache_tokens or 0 for engine in report.engines),
        fastest=_fastest(report.calls),
    )


def _topology_height(plan: Plan, nodes: tuple[Node, ...]) -> int:
    engines_height = len(nodes) * ROW_HEIGHT - (ROW_HEIGHT - BOX_HEIGHT)
    gateway_height = GATEWAY_HEAD + GATEWAY_ROW * len(plan.models)
    return max(engines_height, gateway_height) + 2 * TOPOLOGY_TOP


def _nodes(plan: Plan, report: Report) -> tuple[Node, ...]:
    nodes = []
    for row, (host, engine) in enumerate(plan.engines()):
        subject = f"{host}/{engine.name}"
        seen = _seen_of(report, host, engine)
        answered = seen is not None and seen.window_tokens is not None
        y = TOPOLOGY_TOP + row * ROW_HEIGHT
        nodes.append(
            Node(
                subject=subject,
                model=engine.model,
                address=f"{engine.vllm_options.host}:{engine.vllm_options.port}",
                window=f"{seen.window_tokens:,}" if seen and seen.window_tokens is not None else "no answer",
                figures=f"{seen.kv_cache_tokens:,} KV tokens" if seen and seen.kv_cache_tokens is not None else "",
                verdict=_verdict_of(report, ("engine",), {subject}) if answered else "fail",
                y=y,
                middle=y + BOX_HEIGHT // 2,
            )
        )
    return tuple(nodes)


def _bars(plan: Plan, report: Report) -> tuple[MemoryBar, ...]:
    widest_bytes = max((engine.memory.usable_bytes for _, engine in plan.engines()), default=1)
    requested_bytes = max((engine.memory.requested_bytes for _, engine in plan.engines()), default=1)
    scale_bytes = min(widest_bytes, round(requested_bytes * 1.25))
    return tuple(_bar(host, engine, report, scale_bytes) for host, engine in plan.engines())


def _bar(host: str, engine: Engine, report: Report, scale_bytes: int) -> MemoryBar:
    memory = engine.memory
    segments: list[Part] = []
    x = 0.0
    for kind, label, quantity_bytes in _parts(engine):
        width = max(BAR_WIDTH * quantity_bytes / scale_bytes, HAIRLINE_WIDTH)
        segments.append(Part(kind=kind, label=label, text=gib_text(quantity_bytes), x=x, width=width))
        x += width
    seen = _seen_of(report, host, engine)
    resident_bytes = seen.memory_current_bytes if seen else None
    device = f"{len(engine.gpu_uuids)} GPU" if engine.gpu_uuids else f"CPU core {_numbers(engine.cpu_cores)}"
    return MemoryBar(
        subject=f"{host}/{engine.name}",
        model=engine.model,
        device=device,
        requested=gib_text(memory.requested_bytes),
        usable=gib_text(memory.usable_bytes),
        usable_width=min(BAR_WIDTH, BAR_WIDTH * memory.usable_bytes / scale_bytes),
        segments=tuple(segments),
        tokens=f"{engine.kv_cache.tokens:,}",
        concurrency=f"{engine.kv_cache.max_concurrency_ratio:,.1f}",
        resident=gib_text(resident_bytes) if resident_bytes is not None else "",
    )


def _parts(engine: Engine) -> tuple[tuple[str, str, int], ...]:
    memory = engine.memory
    rest = (
        ("activation", "activations", memory.activation_bytes),
        ("non-torch", "runtime", memory.non_torch_bytes),
        ("graph", "CUDA graphs", memory.cuda_graph_bytes),
    )
    return (
        ("weights", "weights", memory.weights_bytes),
        ("kv", "KV cache", memory.kv_cache_bytes),
        *(part for part in rest if part[2]),
    )


def _legend(plan: Plan) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((kind, label) for _, engine in plan.engines() for kind, label, _ in _parts(engine)))


def _calls(report: Report) -> tuple[CallRow, ...]:
    slowest_seconds = max((call.seconds for call in report.calls), default=0.0) or 1.0
    failed = {(check.subject.partition(" at ")[0], check.id) for check in report.failed}
    rows = []
    for call in report.calls:
        first_seconds = call.first_token_seconds
        tokens = f"{call.prompt_tokens} + {call.completion_tokens}" if call.completion_tokens is not None else ""
        rows.append(
            CallRow(
                model=call.model,
                kind=call.kind,
                status="no answer" if call.status is None else str(call.status),
                verdict="fail" if (call.model, f"model.{call.kind}") in failed else "pass",
                served_by=call.served_by or "",
                tokens=tokens,
                first_token="" if first_seconds is None else _milliseconds(first_seconds),
                seconds=_milliseconds(call.seconds),
                first_token_width=100 * (first_seconds or 0.0) / slowest_seconds,
                width=100 * call.seconds / slowest_seconds,
            )
        )
    return tuple(rows)


def _groups(report: Report) -> tuple[CheckGroup, ...]:
    groups = []
    for group, title in GROUPS.items():
        checks = tuple(check for check in report.checks if check.group == group)
        if checks:
            failed_first = tuple(sorted(checks, key=lambda check: check.verdict == "pass"))
            groups.append(CheckGroup(title=title[0].upper() + title[1:], checks=failed_first))
    return tuple(groups)


def _verdict_of(report: Report, groups: tuple[str, ...], subjects: set[str]) -> str:
    failed = [check for check in report.failed if check.group in groups and (not subjects or check.subject in subjects)]
    return "fail" if failed else "pass"


def _seen_of(report: Report, host: str, engine: Engine) -> EngineSeen | None:
    return next((one for one in report.engines if (one.host, one.name) == (host, engine.name)), None)


def _fastest(calls: tuple[CallSeen, ...]) -> str:
    firsts = [call.first_token_seconds for call in calls if call.first_token_seconds is not None]
    return _milliseconds(min(firsts)) if firsts else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"  # noqa: PLR2004


def _moment_text(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%d %B %Y, %H:%M:%S UTC")


def _numbers(cores: tuple[int, ...]) -> str:
    if len(cores) > 1 and cores == tuple(range(cores[0], cores[-1] + 1)):
        return f"{cores[0]}-{cores[-1]}"
    return ",".join(str(core) for core in cores)
