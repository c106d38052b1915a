"""Fallbacks: which model answers for which, and what must never be - judged before anything is placed.

Refused: unknown models, cycles, windows that shrink, and every way from a model marked `data: internal` to an endpoint
outside. LiteLLM walks chains (a fallback that fails falls back further), so ways are followed to their ends, over all
kinds of fallback together.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sizing.errors import DocumentError

Chains = Mapping[str, tuple[str, ...]]
CONTEXT_WINDOW = "context_window_fallbacks"
CONTENT_POLICY = "content_policy_fallbacks"
GENERAL = "fallbacks"
DEFAULT = "default_fallbacks"


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A model as far as fallbacks care."""

    name: str
    window_tokens: int | None
    internal: bool
    inside: bool  # every deployment of it
    mode: str = "chat"


@dataclass(frozen=True, kw_only=True)
class Fallbacks:
    """All kinds of fallback of one site, by the models' own names."""

    general: Chains = field(default_factory=dict)
    default: tuple[str, ...] = ()
    context_window: Chains = field(default_factory=dict)
    content_policy: Chains = field(default_factory=dict)
    may_be_smaller: Collection[str] = ()  # models whose general fallbacks may have smaller windows

    def kinds(self, models: Iterable[str]) -> Mapping[str, Chains]:
        """Each kind as chains by model; the default ones stand for every model without chains of its own."""
        by_default = {name: self.default for name in models if self.default and name not in self.general}
        return {
            GENERAL: self.general,
            DEFAULT: {name: tuple(one for one in chain if one != name) for name, chain in by_default.items()},
            CONTEXT_WINDOW: self.context_window,
            CONTENT_POLICY: self.content_policy,
        }


def check_fallbacks(fallbacks: Fallbacks, models: Mapping[str, Routed], *, off: Collection[str] = ()) -> None:
    """Raises DocumentError with one line for the first thing that must not be; `off` are models switched off."""
    kinds = fallbacks.kinds(models)
    for name in fallbacks.default:
        _known(name, models, off, f"{DEFAULT} name")
    for kind, chains in kinds.items():
        for name, chain in chains.items():
            _known(name, models, off, f"{kind} are declared for")
            for target in chain:
                _known(target, models, off, f"{kind} of {name} name")
        if kind != DEFAULT:
            _refuse_cycle(kind, chains)
    _refuse_ways_out(kinds, models)
    for kind, chains in kinds.items():
        for name, chain in chains.items():
            for target in chain:
                _must_be_alike(kind, models[name], models[target])
                if kind == CONTEXT_WINDOW:
                    _must_grow(models[name], models[target])
                elif kind in {GENERAL, DEFAULT} and name not in fallbacks.may_be_smaller:
                    _must_not_shrink(kind, models[name], models[target])


def _known(name: str, models: Mapping[str, Routed], off: Collection[str], what: str) -> None:
    if name in models:
        return
    if name in off:
        raise DocumentError(f"routing: {what} {name}, whose endpoints are switched off; enable one or drop it")
    raise DocumentError(f"routing: {what} {name}, which is not served; there are {', '.join(sorted(models))}")


def _refuse_cycle(kind: str, chains: Chains) -> None:
    for start in chains:
        for path in _paths(start, chains, (start,)):
            if path[-1] == start:
                raise DocumentError(f"routing: {kind} go in a circle: {' -> '.join(path)}; take one of them away")


def _paths(name: str, chains: Chains, way: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for target in chains.get(name, ()):
        yield (*way, target)
        if target not in way:
            yield from _paths(target, chains, (*way, target))


def _refuse_ways_out(kinds: Mapping[str, Chains], models: Mapping[str, Routed]) -> None:
    """Whatever makes a request go on, it goes on from where it is: all kinds count together."""
    for model in models.values():
        if not model.internal:
            continue
        ways: dict[str, tuple[tuple[str, str], ...]] = {model.name: ()}  # to each model reached: steps of (kind, model)
        waiting = [model.name]
        while waiting:
            here = waiting.pop(0)
            for kind, chains in kinds.items():
                for target in chains.get(here, ()):
                    if target in ways:
                        continue
                    ways[target] = (*ways[here], (kind, target))
                    waiting.append(target)
                    if not models[target].inside:
                        raise DocumentError(_way_out(model.name, ways[target]))


def _way_out(name: str, steps: tuple[tuple[str, str], ...]) -> str:
    way, here, advice = name, name, "take one of these steps away"
    for kind, target in steps:
        if kind == DEFAULT:
            advice = f"give {here} fallbacks of its own ([] for none)"
        way, here = f"{way} -> {target} ({kind})", target
    return f"routing: {name} is marked data: internal and would leave the premises: {way}; {advice}"


def _must_be_alike(kind: str, model: Routed, target: Routed) -> None:
    if model.mode != target.mode:
        raise DocumentError(
            f"routing: {kind} of {model.name} ({model.mode}) name {target.name}, which is for {target.mode}"
        )


def _must_grow(model: Routed, target: Routed) -> None:
    for one in (model, target):
        if one.window_tokens is None:
            raise DocumentError(
                f"routing: {CONTEXT_WINDOW} of {model.name} need the window of {one.name}; declare its max_input_tokens"
            )
    if (target.window_tokens or 0) <= (model.window_tokens or 0):
        raise DocumentError(
            f"routing: {CONTEXT_WINDOW} of {model.name} (window {model.window_tokens}) name {target.name}, whose "
            f"window {target.window_tokens} is not larger"
        )


def _must_not_shrink(kind: str, model: Routed, target: Routed) -> None:
    if model.window_tokens is None or target.window_tokens is None or target.window_tokens >= model.window_tokens:
        return
    raise DocumentError(
        f"routing: {kind} of {model.name} (window {model.window_tokens}) name {target.name}, whose window "
        f"{target.window_tokens} is smaller: prompts that fit here would fail there; choose another, or say "
        "fallbacks_may_be_smaller: true"
    )
