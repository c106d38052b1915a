"""Site overhead: the overhead of a rank, corrected by what the site's own starts have shown.

A start of the same model with the same batch gives its overhead as it was. Other starts of the same version on the
same GPU scale every term by the median of seen to predicted. Starts of other versions or GPUs say nothing.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sizing.calibration import CalibratedStart, Calibration
from sizing.overhead import Overhead, Rank, Term

BOOT_NOISE_RATIO = 0.08
"""Boots of one machine differ by 8 to 13 % of their overhead (published ledgers)."""
OTHER_MODEL_NOISE_RATIO = 0.15
SANE_RATIOS = (0.4, 2.5)
"""A scale beyond these says that the log is of another configuration than it was taken for."""


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The overhead, and how many starts it rests on: 0 means that none applied."""

    overhead: Overhead
    start_count: int


def corrected_overhead(
    overhead: Overhead, calibration: Calibration | None, *, gpu: str, model: str, rank: Rank
) -> Corrected:
    """The overhead as this site has seen it, where it has."""
    starts = () if calibration is None else calibration.starts_like(gpu=gpu, vllm_version=rank.vllm_version)
    same = [one for one in starts if _is_the_same(one, model, rank)]
    if same:
        ratios = [one.overhead_bytes / max(1, overhead.likely_bytes) for one in same]
        return _scaled(overhead, ratios, BOOT_NOISE_RATIO)
    others = [one for one in starts if (one.tensor_parallel_size > 1) == (rank.shards > 1)]
    if others:
        return _scaled(overhead, [one.ratio for one in others], OTHER_MODEL_NOISE_RATIO)
    return Corrected(overhead=overhead, start_count=0)


def _is_the_same(start: CalibratedStart, model: str, rank: Rank) -> bool:
    return (
        start.model,
        start.tensor_parallel_size,
        start.max_num_batched_tokens,
        start.max_num_seqs,
        start.enforce_eager,
    ) == (model, rank.shards, rank.max_num_batched_tokens, rank.max_num_seqs, rank.enforce_eager)


def _scaled(overhead: Overhead, ratios: Sequence[float], noise_ratio: float) -> Corrected:
    low, high = SANE_RATIOS
    sane = [min(max(ratio, low), high) for ratio in ratios]
    likely = statistics.median(sane)
    return Corrected(
        overhead=Overhead(
            activation=_term(overhead.activation, likely, min(sane), max(sane), noise_ratio),
            non_torch=_term(overhead.non_torch, likely, min(sane), max(sane), noise_ratio),
            cuda_graph=_term(overhead.cuda_graph, likely, min(sane), max(sane), noise_ratio),
        ),
        start_count=len(sane),
    )


def _term(term: Term, likely: float, low: float, high: float, noise_ratio: float) -> Term:
    return Term(
        likely_bytes=int(term.likely_bytes * likely),
        low_bytes=int(term.likely_bytes * low * (1 - noise_ratio)),
        high_bytes=int(term.likely_bytes * high * (1 + noise_ratio)),
        provenance=term.provenance,
    )
