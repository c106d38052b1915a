"""Bars: an estimate as a person reads it - where the memory of one GPU goes, what fits in it, and what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sizing.answer import Estimate, PerGpu
from sizing.device import Device
from sizing.units import gib_text

BAR_CELLS = 64
GPU_BAR_CELLS = 48

PARTS = (
    ("weights", "weights_bytes", "blue", "█"),
    ("activations", "activation_bytes", "magenta", "▓"),
    ("outside PyTorch", "non_torch_bytes", "yellow", "▒"),
    ("CUDA graphs", "cuda_graph_bytes", "cyan", "░"),
    ("KV cache", "kv_cache_bytes", "green", "■"),
)
"""Name, field of the answer, colour, and a shade that tells the parts apart without colour."""

UNREQUESTED = ("·", "dim")
HELD_BY_OTHERS = ("x", "red")
RESERVED = ("/", "dim")

_VERDICT_STYLES = {"fits": "bold green", "does_not_fit": "bold red", "refused": "bold red"}


@dataclass(frozen=True, kw_only=True)
class BarOfGpu:
    """One GPU of a host: what is on it, and where its memory goes (None: no engine)."""

    position: int
    device: Device
    label: str
    memory: PerGpu | None


def print_gpu_bars(console: Console, bars: Sequence[BarOfGpu]) -> None:
    """A bar for each GPU, its whole memory from left to right, and one legend for all."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for bar in bars:
        name = "CPU" if bar.device.accelerator == "cpu" else f"GPU {bar.position}"
        table.add_row(name, _gpu_bar(bar), Text(bar.label, style="" if bar.memory else "dim"))
    console.print(table)
    legend = Text()
    for name, _, colour, shade in PARTS:
        legend.append(shade * 2, style=colour).append(f" {name}  ")
    for (shade, style), name in ((UNREQUESTED, "free"), (HELD_BY_OTHERS, "other processes"), (RESERVED, "driver")):
        legend.append(shade * 2, style=style).append(f" {name}  ")
    console.print(legend, soft_wrap=True)


def _gpu_bar(bar: BarOfGpu) -> Text:
    device = bar.device
    parts = (
        []
        if bar.memory is None
        else [(int(getattr(bar.memory, field)), (shade, colour)) for _, field, colour, shade in PARTS]
    )
    free_bytes = device.memory_usable_bytes - device.memory_used_bytes - sum(size for size, _ in parts)
    parts.append((max(0, free_bytes), UNREQUESTED))
    parts.append((device.memory_used_bytes, HELD_BY_OTHERS))
    parts.append((device.memory_total_bytes - device.memory_usable_bytes, RESERVED))
    text, filled_bytes, total_bytes = Text(), 0, max(1, sum(size for size, _ in parts))
    for size, (shade, style) in parts:
        filled_bytes += size
        text.append(shade * (round(filled_bytes / total_bytes * GPU_BAR_CELLS) - len(text)), style=style)
    return text


def print_estimate(console: Console, answer: Estimate, *, title: str) -> None:
    """The whole page."""
    verdict = Text(answer.verdict.replace("_", " "), style=_VERDICT_STYLES[answer.verdict])
    console.print(Text.assemble((title, "bold"), ": ", verdict))
    if answer.verdict != "refused":
        console.print(_memory(answer))
        if answer.kv_cache_tokens:
            console.print(_capacity(answer))
    if answer.calibration:
        console.print(Text(f"calibrated by {answer.calibration}", style="dim"), soft_wrap=True)
    for refusal in answer.refusals:
        console.print(Text.assemble((f"{refusal.rule}: ", "red"), refusal.message), soft_wrap=True)
        console.print(Text(f"  source: {refusal.source}", style="dim"), soft_wrap=True)


def _memory(answer: Estimate) -> RenderableType:
    memory = answer.per_gpu
    unused_bytes = max(0, memory.usable_bytes - memory.requested_bytes)
    scale_bytes = max(memory.usable_bytes, _sum_of_parts(answer), 1)
    bar = Text()
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column()
    for _ in range(2):
        table.add_column(justify="right")
    table.add_column(style="dim")
    for name, field, colour, shade in PARTS:
        part_bytes: int = getattr(memory, field)
        cells = round(part_bytes / scale_bytes * BAR_CELLS)
        bar.append(shade * cells, style=colour)
        table.add_row(
            Text(shade * 2, style=colour),
            name,
            gib_text(part_bytes),
            f"{part_bytes / scale_bytes:.1%}",
            _provenance(answer, field),
        )
    bar.append("·" * (BAR_CELLS - len(bar)), style="dim")
    table.add_row(
        Text("··", style="dim"), "not requested", gib_text(unused_bytes), f"{unused_bytes / scale_bytes:.1%}", ""
    )
    reserved_bytes = memory.total_bytes - memory.usable_bytes
    if _is_gpu(answer):
        table.add_row(Text("//", style="dim"), "driver's reserve", gib_text(reserved_bytes), "", "not offered by CUDA")
    table.add_row("", "usable", gib_text(memory.usable_bytes), "", f"of {gib_text(memory.total_bytes)} in total")
    return Group(Text("memory of one GPU" if _is_gpu(answer) else "memory"), bar, table)


def _capacity(answer: Estimate) -> RenderableType:
    low, high = answer.interval.kv_cache_tokens
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    span = f" ({low:,} to {high:,})" if (low, high) != (answer.kv_cache_tokens, answer.kv_cache_tokens) else ""
    blocks = f"in {answer.kv_cache_gpu_blocks:,} blocks of {answer.block_size_tokens}"
    table.add_row("KV cache", f"{answer.kv_cache_tokens:,} tokens{span} {blocks}")
    table.add_row("at once", f"{answer.max_concurrency:.2f} requests of {answer.at_tokens:,} tokens")
    table.add_row("longest window", f"{answer.limits.max_model_len_tokens:,} tokens would fit")
    return table


def _provenance(answer: Estimate, field: str) -> str:
    text: str = answer.provenance.get(field, "")
    if field == "kv_cache_bytes":
        low, high = answer.interval.kv_cache_bytes
        if low != high:
            text += f", {gib_text(low)} to {gib_text(high)}"
    return text


def _sum_of_parts(answer: Estimate) -> int:
    return sum(int(getattr(answer.per_gpu, field)) for _, field, _, _ in PARTS)


def _is_gpu(answer: Estimate) -> bool:
    return answer.per_gpu.usable_bytes != answer.per_gpu.total_bytes and "NVIDIA" in answer.gpu.upper()
