"""Accuracy of the KV cache: every recorded answer of vLLM's own planning beside the answer of sizing."""

from sizing.answer import Estimate
from sizing.estimate import estimate
from tests.golden.oracle_tables import JUDGED_VERSIONS, RecordedAnswer, configuration_of, recorded_answers, table
from tools.accuracy_sections import Section, markdown_table, percent

FIGURES = ("tokens", "max_concurrency", "block_count", "block_size")
HEADINGS = ("model", "device", "TP", "KV bytes", "options", "vLLM", "sizing", "equal")
REFUSAL_CHARACTERS = 90
SHORT_NAMES = {
    "max_model_len": "len",
    "max_num_batched_tokens": "batched",
    "max_num_seqs": "seqs",
    "kv_cache_dtype": "kv",
    "block_size": "block",
    "async_scheduling": "async",
    "language_model_only": "text only",
}

INTRODUCTION = """\
Each row is one configuration that vLLM's own code planned: its arguments, its model classes on torch's meta device,
its KV cache specifications, its block alignment, its grouping, its capacity and its refusals, over a GPU that is only
pretended. Nothing of it is re-implemented. A row is equal when KV tokens, maximum concurrency, blocks, block size,
window and weight bytes are all equal, or when both refuse. `tools/record_kv_oracle.py` records the tables.

The judge of 0.32.0 is the CPU wheel, that of 0.33.0 the Python sources of the CUDA wheel, as 0.33 has no CPU wheel.
What they cannot see, and what is therefore not promised:

- The CPU wheel lacks FlashAttention 4. The sources of the CUDA wheel of 0.32.0 choose blocks of 64 tokens instead of 16
  for Gemma 4 where the cache is FP8 on Hopper, and where images are on on B200; a run there holds 0.1 to 0.5 % fewer
  tokens than stated here for 0.32.0. The rows of 0.33.0 have it.
- Gemma 4 with images on B200 and a `--block-size` of 128 or more: 0.33.0 keeps sliding-window blocks at 64.
- Pipeline stages and data parallelism are not among the cases; the answers for them are labelled extrapolated.
- Other versions from 0.19 on are read from their sources and not compared; their answers are labelled extrapolated.
- Qwen3.8-Flash-Next (the judge cannot build its n-gram table without pinned memory) and NVFP4 checkpoints are refused
  as unknown facts."""


def kv_section() -> Section:
    """All versions that have a table."""
    parts, summaries = [INTRODUCTION], []
    for version in JUDGED_VERSIONS:
        rows = recorded_answers(version)
        cells = [_cells(row) for row in rows]
        equal_count = sum(one[-1] == "yes" for one in cells)
        refused_count = sum(row.is_refusal for row in rows)
        judge = f"vLLM {version}, over the libraries of {table(version)['libraries_of']}"
        line = (
            f"vLLM {version}: {equal_count} of {len(rows)} configurations equal "
            f"({percent(equal_count, len(rows))}), {refused_count} of them refusals"
        )
        summaries.append(line)
        parts.append(f"### {judge}\n\n{line}.\n\n{markdown_table(HEADINGS, cells)}")
    return Section(
        title="KV cache: tokens, concurrency, blocks, refusals", summary="; ".join(summaries), text="\n\n".join(parts)
    )


def _cells(row: RecordedAnswer) -> tuple[str, ...]:
    case, answer = row.case, estimate(configuration_of(row))
    rules = [one for one in answer.refusals if one.rule != "memory"]
    given = [
        f"{short}={getattr(case, name)}"
        for name, short in SHORT_NAMES.items()
        if getattr(case, name) not in (None, False, "auto")
        or (name == "async_scheduling" and case.async_scheduling is False)
    ]
    theirs = _refusal(str(row.answer["refusal"])) if row.is_refusal else _figures({k: row.answer[k] for k in FIGURES})
    ours = f"refused: {rules[0].rule}" if rules else _figures(_own(answer))
    equal = bool(rules) if row.is_refusal else not rules and all(row.answer[k] == v for k, v in _own(answer).items())
    return (
        case.model,
        case.device,
        str(case.tensor_parallel_size),
        f"{case.kv_bytes:,}",
        ", ".join(given) or "-",
        theirs,
        ours,
        "yes" if equal else "**no**",
    )


def _own(answer: Estimate) -> dict[str, object]:
    return {
        "tokens": answer.kv_cache_tokens,
        "max_concurrency": answer.max_concurrency,
        "block_count": answer.kv_cache_gpu_blocks,
        "block_size": answer.block_size_tokens,
        "max_model_len": answer.at_tokens,
        "weight_bytes": answer.per_gpu.weights_bytes,
    }


def _figures(figures: dict[str, object]) -> str:
    tokens, concurrency = figures["tokens"], figures["max_concurrency"]
    return f"{tokens:,} tokens, {concurrency:.2f}x, {figures['block_count']} x {figures['block_size']}"


def _refusal(words: str) -> str:
    kind, _, message = words.partition(": ")
    del kind
    return f"refused: {message[:REFUSAL_CHARACTERS]}{'...' if len(message) > REFUSAL_CHARACTERS else ''}"
