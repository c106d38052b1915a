"""Recommend page: a recommendation as one self-contained HTML file, a memory bar for each engine.

No script, no font, no image from outside: the page can be mailed and printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from sizing.answer import Estimate, PerGpu
from sizing.plan import EngineMemory
from sizing.recommend import Recommendation, RecommendedSite
from sizing.units import gib_text

BAR_WIDTH = 1000

_KINDS = (
    ("weights", "weights", "weights_bytes"),
    ("activation", "activations", "activation_bytes"),
    ("non-torch", "outside PyTorch", "non_torch_bytes"),
    ("graph", "CUDA graphs", "cuda_graph_bytes"),
    ("kv", "KV cache", "kv_cache_bytes"),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a memory bar."""

    kind: str
    label: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One engine, taken or not."""

    title: str
    reason: str
    rejection: str
    command: str
    parts: tuple[Part, ...]


def ranked_page(answers: Sequence[Recommendation], *, device: str) -> str:
    """The ranked candidates for one or more models on one kind of device."""
    entries = []
    for one in answers:
        answer = Estimate.model_validate(one.estimate)
        shards = one.vllm_options["tensor-parallel-size"]
        entries.append(
            Entry(
                title=f"{one.rank}. {one.model}, tensor-parallel-size {shards}",
                reason=f"It {one.reason}.",
                rejection=one.rejection,
                command=one.vllm_serve_line,
                parts=_parts(answer.per_gpu),
            )
        )
    return _page(title=f"What to run on {device}", subtitle="Memory of one GPU, best first.", entries=entries, notes=())


def site_page(recommended: RecommendedSite) -> str:
    """The plan of a site."""
    plan = recommended.plan
    entries = [
        Entry(
            title=f"{host} / {engine.name}",
            reason=f"{engine.model}: {engine.kv_cache.tokens:,} tokens of KV cache hold "
            f"{engine.kv_cache.max_concurrency_ratio:.1f} requests of {engine.vllm_options.max_model_len:,} tokens.",
            rejection="",
            command="",
            parts=_parts(engine.memory),
        )
        for host, engine in plan.engines()
    ]
    return _page(
        title=f"Plan of site {plan.site}",
        subtitle=f"vLLM {plan.vllm_version}, LiteLLM {plan.litellm_version}. Memory of one rank of each engine.",
        entries=entries,
        notes=(*recommended.reasons, *(f"Not taken: {one}" for one in recommended.rejections)),
    )


def _parts(memory: PerGpu | EngineMemory) -> tuple[Part, ...]:
    sizes = [(kind, label, int(getattr(memory, field))) for kind, label, field in _KINDS]
    unused_bytes = max(0, memory.usable_bytes - memory.requested_bytes)
    sizes.append(("unused", "not requested", unused_bytes))
    scale_bytes = max(1, sum(quantity_bytes for _, _, quantity_bytes in sizes))
    parts = []
    x = 0.0
    for kind, label, quantity_bytes in sizes:
        width = BAR_WIDTH * quantity_bytes / scale_bytes
        parts.append(Part(kind=kind, label=label, text=gib_text(quantity_bytes), x=x, width=width))
        x += width
    return tuple(parts)


def _page(*, title: str, subtitle: str, entries: Sequence[Entry], notes: Sequence[str]) -> str:
    environment = Environment(
        loader=PackageLoader("sizing"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("recommendation.html.j2")
    return template.render(title=title, subtitle=subtitle, entries=entries, notes=notes)
