"""How the answer of `recommend` for one host is printed: ranked candidates, reasons, and a memory bar for each GPU."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sizing.cli_bars import BarOfGpu, print_gpu_bars
from sizing.cli_console import answer, human_console, say
from sizing.cli_feel import feel_json, print_felt
from sizing.errors import DoesNotFit
from sizing.estimate import Estimate
from sizing.feel import Felt, felt, with_rivals
from sizing.gateway_load import Streaming
from sizing.islands import Pool
from sizing.model_facts import load_model_facts
from sizing.recommend import Recommendation, Recommended, recommend
from sizing.wish import Wish


def answer_for_host(
    models: Sequence[str],
    pools: Sequence[Pool],
    wish: Wish,
    *,
    streaming: Streaming,
    as_json: bool,
    html: Path | None,
) -> int:
    """Prints the answer; exit code 3 where the wish cannot be met (the JSON and the page are made all the same)."""
    facts = [load_model_facts(model) for model in models]
    recommended = recommend(facts, pools, wish=wish)
    speed = felt(recommended.taken(), wish, streaming) if wish.demand and not recommended.unmet else None
    if html is not None:
        from sizing.recommend_page import ranked_page, write_page  # noqa: PLC0415 - templates only where a page is made

        if speed is not None:
            weighed = {model: candidates for model, (_, candidates) in recommended.taken().items()}
            speed = with_rivals(speed, weighed)
        write_page(html, ranked_page(recommended, pools, wish=wish, speed=speed))
        say(f"page: {html}")
    if as_json:
        answer(_json(recommended, speed))
    if recommended.unmet:
        if as_json:
            say(recommended.unmet)
            return DoesNotFit.exit_code
        raise DoesNotFit(recommended.unmet)
    if not as_json:
        console = human_console()
        if speed is not None:
            print_felt(console, speed)
        _print_ranked(console, recommended.ranked, pools)
    return 0


def _json(recommended: Recommended, speed: Felt | None) -> str:
    """A list of candidates; the changes that would meet the wish stand in the first one of an unmet wish."""
    entries = [one.as_json() for one in recommended.ranked]
    if entries and recommended.unmet:
        entries[0]["unmet"] = recommended.unmet
        entries[0]["changes"] = [dataclasses.asdict(change) for change in recommended.changes]
    for one, entry in zip(recommended.ranked, entries, strict=True):
        if speed is not None and one.devices:
            entry["speed"] = feel_json(speed.by_model[one.model])
            entry["gateway"] = [dataclasses.asdict(load) for load in speed.gateway]
    return json.dumps(entries, indent=2, ensure_ascii=False)


def _print_ranked(console: Console, ranked: Sequence[Recommendation], pools: Sequence[Pool]) -> None:
    print_gpu_bars(console, _bars(ranked, pools))
    for one in ranked:
        if one.rejection:
            console.print(Text(f"   not {one.alternative}: {one.rejection}", style="dim"), soft_wrap=True)
            continue
        title = Text.assemble((f"{one.rank}. {one.model}, {one.alternative}", "bold"), f": {one.reason}")
        console.print(title, soft_wrap=True)
        console.print(Text(f"   {one.vllm_serve_line}", style="green"), soft_wrap=True)
        if one.devices:
            for line in _pinned(one, pools):
                console.print(f"   {line}", markup=False, soft_wrap=True)
            for choice in one.reasons:
                console.print(f"   {choice.option} {choice.value}: {choice.because}", markup=False, soft_wrap=True)


def _pinned(one: Recommendation, pools: Sequence[Pool]) -> list[str]:
    """Which GPUs each engine is to see, where it must not see all of them."""
    if sum(pool.device_count for pool in pools) == len(one.devices[0]):
        return []
    return [
        f"engine {number}: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={','.join(map(str, positions))}"
        for number, positions in enumerate(one.devices, start=1)
    ]


def _bars(ranked: Sequence[Recommendation], pools: Sequence[Pool]) -> list[BarOfGpu]:
    """One bar for each GPU of the host, those without an engine too."""
    taken = {
        position: (one, number)
        for one in ranked
        for number, positions in enumerate(one.devices, start=1)
        for position in positions
    }
    bars = []
    for pool in pools:
        for position in (position for island in pool.islands for position in island):
            one, number = taken.get(position, (None, 0))
            label = "free"
            if one is not None:
                label = one.checkpoint + (f" #{number}" if one.replicas > 1 else "")
            memory = None if one is None else Estimate.model_validate(one.estimate).per_gpu
            bars.append(BarOfGpu(position=position, device=pool.device, label=label, memory=memory))
    return sorted(bars, key=lambda bar: bar.position)
