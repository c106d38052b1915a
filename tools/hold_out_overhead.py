"""Hold-out checks of the fitted constants: each profile run predicted by constants fitted on all others.

The runs are of 16 models, ten of them outside the catalogue (tests/golden/start_up_ledgers.yaml, profile_runs): 8,192
batched tokens, 1,024 sequences, vLLM 0.19.0 on H100. The shapes of the formulas are vLLM's; only constants are fitted.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence

from sizing.overhead_table import overhead_table
from sizing.units import GIB, MIB
from tools.start_up_ledgers import ProfileRun, ledger_file

BATCHED_TOKENS = 8192
SEQUENCES = 1024
ELEMENT_BYTES = 2


def hold_out_lines() -> Iterator[str]:
    """A Markdown table: term, runs, the constant in use, the range when one run is left out, and the errors then."""
    runs = ledger_file().profile_runs
    sampled = [run for run in runs if _is_sampled(run)]
    forwarded = [run for run in runs if not _is_sampled(run)]
    profile, graphs = overhead_table().cuda.profile, overhead_table().cuda.cuda_graph[0]
    yield "| constant | runs | in use | with one run left out | median error | largest error |"
    yield "| --- | ---: | ---: | --- | ---: | ---: |"
    bytes_in_use = profile.sampler_bytes["v1"]
    yield _line("bytes per sequence and vocabulary entry", sampled, bytes_in_use, _sampler_bytes, _sampler_gib)
    yield _line("copies of the hidden state", forwarded, profile.hidden_copies, _hidden_copies, _forward_gib)
    yield _line("MiB of graphs per layer", runs, graphs.mib_per_layer, _layer_mib, _graph_gib)


def _line(
    name: str,
    runs: Sequence[ProfileRun],
    in_use: float,
    fit: Callable[[Sequence[ProfileRun]], float],
    predict: Callable[[ProfileRun, float], float],
) -> str:
    fits = [fit([one for one in runs if one is not left_out]) for left_out in runs]
    errors = [
        abs(predict(run, constant) / (run.graph_gib if predict is _graph_gib else run.activation_gib) - 1)
        for run, constant in zip(runs, fits, strict=True)
    ]
    spread = f"{min(fits):.2f} to {max(fits):.2f}"
    return f"| {name} | {len(runs)} | {in_use} | {spread} | {statistics.median(errors):.1%} | {max(errors):.1%} |"


def _is_sampled(run: ProfileRun) -> bool:
    """Whether logits, not the forward pass, set the peak."""
    profile = overhead_table().cuda.profile
    return _sampler_gib(run, profile.sampler_bytes["v1"]) > _forward_gib(run, profile.hidden_copies)


def _fixed_bytes() -> int:
    return overhead_table().cuda.profile.fixed_mib * MIB


def _hidden_bytes(run: ProfileRun) -> int:
    return BATCHED_TOKENS * run.hidden_size * ELEMENT_BYTES


def _sampler_bytes(runs: Sequence[ProfileRun]) -> float:
    return statistics.mean(
        (run.activation_gib * GIB - _fixed_bytes() - _hidden_bytes(run)) / (SEQUENCES * run.vocabulary_size)
        for run in runs
    )


def _sampler_gib(run: ProfileRun, constant: float) -> float:
    return (_fixed_bytes() + _hidden_bytes(run) + constant * SEQUENCES * run.vocabulary_size) / GIB


def _hidden_copies(runs: Sequence[ProfileRun]) -> float:
    copies = []
    for run in runs:
        per_token = (run.activation_gib * GIB - _fixed_bytes()) / BATCHED_TOKENS / ELEMENT_BYTES
        copies.append((per_token - 3 * run.intermediate_size / run.shards) / run.hidden_size)
    return statistics.mean(copies)


def _forward_gib(run: ProfileRun, constant: float) -> float:
    per_token = 3 * run.intermediate_size / run.shards + constant * run.hidden_size
    return (_fixed_bytes() + BATCHED_TOKENS * ELEMENT_BYTES * per_token) / GIB


def _layer_mib(runs: Sequence[ProfileRun]) -> float:
    base_mib = overhead_table().cuda.cuda_graph[0].base_mib
    return statistics.median((run.graph_gib * 1024 - base_mib) / run.layers for run in runs)


def _graph_gib(run: ProfileRun, constant: float) -> float:
    return (overhead_table().cuda.cuda_graph[0].base_mib + constant * run.layers) / 1024
