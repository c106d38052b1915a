#!/usr/bin/env python3
"""Make docs/five-questions.md and the short table of the README: our answers beside those of other tools.

Ours are computed here and now; the others' are in tools/five_questions.yaml, as they were given. `--check` writes
nothing and exits 1 where a page is not what it would write.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from sizing.device import Device, find_gpu
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.model_facts import load_model_facts
from sizing.units import GIB, gib_text

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).with_name("five_questions.yaml")
PAGE = ROOT / "docs" / "five-questions.md"
README = ROOT / "README.md"
START, END = "<!-- five questions -->", "<!-- /five questions -->"
UTILIZATIONS = (0.90, 0.92)
HEAD = """\
<!-- Made by tools/make_five_questions.py. Do not edit: a test fails when it is stale. -->
# Five questions

What happens with a window of {window:,} tokens? Every tool was run with its own command on the same configuration
files. The reference takes its bytes from published constants of another tool and its tokens from vLLM's own code, so
its bytes are an opinion and its tokens are not. Percentages are against the reference.
"""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Part):
    """Bytes of the KV cache, the tokens that vLLM's own code makes of them, and the words for it."""

    pool_gib: float
    tokens: int
    text: str
    async_scheduling: bool | None = None


class Question(_Part):
    """One model on one kind of GPU."""

    key: str
    title: str
    model: str
    gpu: str
    tensor_parallel_size: int
    reference: Reference
    note: str = ""


class Peer(_Part):
    """Another tool, and its answer to each question."""

    name: str
    answers: dict[str, str]


class FiveQuestions(_Part):
    """The data file."""

    window_tokens: int
    questions: tuple[Question, ...]
    peers: tuple[Peer, ...]
    readme_peers: dict[str, str]


def five_questions() -> FiveQuestions:
    """The questions, and what others answered."""
    return FiveQuestions.model_validate(yaml.safe_load(DATA.read_text(encoding="utf-8")))


def own_answer(question: Question, window_tokens: int, *, utilization: float | None = None) -> Estimate:
    """What sizing says; without a utilization for the reference's own bytes."""
    reference = question.reference
    return estimate(
        EngineConfiguration(
            model=load_model_facts(question.model),
            device=Device.of_gpu(find_gpu(question.gpu).as_gpu()),
            tensor_parallel_size=question.tensor_parallel_size,
            max_model_len=window_tokens,
            gpu_memory_utilization=utilization,
            kv_cache_memory_bytes=None if utilization else int(reference.pool_gib * GIB),
            async_scheduling=None if utilization else reference.async_scheduling,
        )
    )


def page() -> str:
    """The whole page."""
    data = five_questions()
    parts = [HEAD.format(window=data.window_tokens)]
    for question in data.questions:
        rows = [(f"**llm-size**, utilization {share}", _own(question, data, share)) for share in UTILIZATIONS]
        rows.append(
            (f"llm-size, given the reference's {question.reference.pool_gib:g} GiB", _own(question, data, None))
        )
        rows.append(("reference, utilization 0.9", question.reference.text))
        rows += [(peer.name, peer.answers[question.key]) for peer in data.peers]
        note = f"\n{question.note}\n" if question.note else ""
        parts.append(f"## {question.key}) {question.title}\n{note}\n{_table(('tool', 'answer'), rows)}\n")
    return "\n".join(parts)


def readme_table() -> str:
    """The short table between the markers."""
    data = five_questions()
    rows = []
    for question in data.questions:
        answer = own_answer(question, data.window_tokens, utilization=UTILIZATIONS[0])
        rows.append((question.title, _short(answer), question.reference.text, data.readme_peers[question.key]))
    headings = (f"{data.window_tokens:,} tokens, utilization {UTILIZATIONS[0]}", "llm-size", "reference", "other tools")
    text = _table(headings, rows)
    return (
        f"{START}\n{text}\n\nvLLM {DEFAULT_VLLM_VERSION}; every answer of every tool: "
        f"[five questions](docs/five-questions.md).\n{END}"
    )


def _own(question: Question, data: FiveQuestions, utilization: float | None) -> str:
    answer = own_answer(question, data.window_tokens, utilization=utilization)
    pool = gib_text(answer.per_gpu.kv_cache_bytes)
    if utilization is not None:
        low, high = (gib_text(bound) for bound in answer.interval.kv_cache_bytes)
        pool += f" ({low} to {high})"
    if answer.verdict != "fits":
        return f"{pool}: does **not** fit; the longest window is {answer.limits.max_model_len_tokens:,} tokens"
    close = " (too close to call: the low end does not fit)" if answer.interval.kv_cache_tokens[0] == 0 else ""
    return f"{pool}: {answer.kv_cache_tokens:,} tokens, {answer.max_concurrency:.1f} requests{close}"


def _short(answer: Estimate) -> str:
    if answer.verdict != "fits":
        return f"does **not** fit (longest: {answer.limits.max_model_len_tokens:,})"
    low, high = answer.interval.kv_cache_tokens
    return f"{answer.kv_cache_tokens:,} tokens ({low:,} to {high:,}), {answer.max_concurrency:.1f} requests"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(' --- ' for _ in headings)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def readme_with_table(text: str) -> str:
    """The README with the table between its markers; unchanged where it has none."""
    if START not in text:
        return text
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2] if END in rest else rest
    return before + readme_table() + after


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Make docs/five-questions.md and the table of the README.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    arguments = parser.parse_args()
    readme = README.read_text(encoding="utf-8")
    wanted = {PAGE: page(), README: readme_with_table(readme)}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if arguments.check:
        return int(bool(stale))
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
