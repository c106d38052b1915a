"""Version differences: the same configuration under two releases of vLLM, and what an upgrade would change.

Only what an operator would notice is compared: verdict, memory, cache, block size, limits and refusals.
"""

from dataclasses import replace

from sizing.answer import Estimate
from sizing.documents import Part
from sizing.errors import SizingError
from sizing.estimate import EngineConfiguration, estimate

Value = int | float | str


class Difference(Part):
    """One figure that changes."""

    what: str
    before: Value
    after: Value


class VersionDifferences(Part):
    """Both answers and what differs between them."""

    before_version: str
    after_version: str
    differences: tuple[Difference, ...]
    before: Estimate
    after: Estimate


def parsed_versions(text: str) -> tuple[str, str]:
    """`A,B` as two versions. Raises SizingError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):  # noqa: PLR2004 - a pair
        raise SizingError(f'--diff-versions takes two versions, such as 0.32.0,0.33.0; got "{text}"')
    return parts[0], parts[1]


def version_differences(configuration: EngineConfiguration, *, before: str, after: str) -> VersionDifferences:
    """What changes from release `before` to release `after`."""
    older = estimate(replace(configuration, vllm_version=before))
    newer = estimate(replace(configuration, vllm_version=after))
    old_figures, new_figures = _figures(older), _figures(newer)
    return VersionDifferences(
        before_version=before,
        after_version=after,
        differences=tuple(
            Difference(what=what, before=old_figures[what], after=value)
            for what, value in new_figures.items()
            if old_figures[what] != value
        ),
        before=older,
        after=newer,
    )


def _figures(answer: Estimate) -> dict[str, Value]:
    memory = answer.per_gpu
    return {
        "verdict": answer.verdict,
        "refusals": "; ".join(one.message for one in answer.refusals),
        "requested_bytes": memory.requested_bytes,
        "weights_bytes": memory.weights_bytes,
        "activation_bytes": memory.activation_bytes,
        "non_torch_bytes": memory.non_torch_bytes,
        "cuda_graph_bytes": memory.cuda_graph_bytes,
        "kv_cache_bytes": memory.kv_cache_bytes,
        "block_size_tokens": answer.block_size_tokens,
        "kv_cache_gpu_blocks": answer.kv_cache_gpu_blocks,
        "kv_cache_tokens": answer.kv_cache_tokens,
        "at_tokens": answer.at_tokens,
        "max_concurrency": round(answer.max_concurrency, 2),
        "longest_max_model_len_tokens": answer.limits.max_model_len_tokens,
        "most_max_num_seqs": answer.limits.max_num_seqs,
    }
