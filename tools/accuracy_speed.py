"""The speed section of docs/accuracy.md: every published row predicted and observed, a peer beside it, and each model
of the measured series predicted by factors that never saw it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from tools.accuracy_sections import Section, markdown_table
from tools.speed_rows import Prediction, SpeedRow, predict, series_as_rows, speed_rows
from tools.speed_series import series_rows, series_seconds

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
HEAD = """\
Each row is a serving run that somebody published, with its conditions; sizing replays its load
(`sizing/closed_loop.py`, with the scheduler of `sizing/serving.py`) with the step times of `sizing/speed.py`. Given
rows were collected before the model was written, later rows afterwards. No row chose a factor, save where `chose`
says which. Errors are of the predicted figure against the observed one; an interval is that of the predicted time,
and of the throughput with it.

Sources are split in two by the first digit of their SHA-256: factors and intervals may look at the fitting half, and
the other half checks them. The rule stood before the second half of the later rows was read; the given rows and the
first 14 later ones had been seen by then, whichever half they fall into.

`tools/fit_intervals.py` makes the intervals: every source weighs the same, and they are as wide as it takes to hold
for eight rows of ten of a source that did not help to make them. Where the family of a GPU was never measured the
same is asked of every row with its family taken out of the catalogue; where the GPU itself is unknown, the spread of
its guessed bandwidth is added. Times to first token have an interval of their own, made in the same way.

What the errors show, beyond their size:

- The H100 of three pages of one laboratory (Qwen3 14B and 32B, vLLM 0.11) is no SXM card at full speed, whatever the
  pages say: at batch 1 its steps read 74 GB in 43 ms, which is 1.7 TB/s, with three different engines, and a PCIe
  card has 2.0. They count as the SXM card all the same; the last column shows what sizing says of the PCIe card. The
  H100 of two other pages of that laboratory (Qwen3 8B) is as fast as the SXM card that sizing computes.
- A burst of chat requests on vLLM 0.11 keeps that laboratory's API server busy for about 15 ms a request before the
  engine begins: four runs of 1,000 prompts with answers of 4 tokens take 12 to 17 s longer than their arithmetic,
  whatever the model. Two of them are in the fitting half and chose `admission_ms`, which all burst rows of that
  laboratory and version carry; vLLM 0.9.2 does not show it.
- The client of the H200 pages counts chunks that arrive in bundles. Its rows of different weight formats lie within 7
  % of each other, so that something else than the GPU is measured; they are kept.

What the rows do not say is filled in and named in the last column. Versions before 0.19 take the memory of 0.19.
"""
PEER = """\
### Beside AIConfigurator 0.12

The peer (Apache-2.0, `aiconfigurator cli estimate`, its vLLM tables of 0.24, offline) was asked for the same rows by
`tools/record_speed_peer.py`, and for every third load of the series whose model is in the catalogue. Only rows that
both answer are compared. Two things favour llm-size: the peer predicts a steady state, so rows that are one burst are
harder for it than for a replay; and the loads of the series are among those that chose our factors (the last table says
what is without them), while the peer works from kernels that it measured one by one.
"""
SERIES = """\
### The series behind the factors of H100, H200 and B200

`tools/fit_efficiency.py` chooses the factors marked `series` from these rows and writes them into the catalogue
(`--check` says whether they still are what it chooses); with `--hold-out` it predicts models from the others alone
(the second table; where a model alone has a data type, its factors stay where the search starts). Of the published
series, Qwen3-235B (51 loads), Llama-8B (21) and Qwen3-32B-FP8 (3) were left out: their labels contradict each other
or do not say what ran.
"""
GROUPS = (
    *("rows", "n", "throughput", "bias", "interval holds", "n", "time per token", "bias", "interval holds"),
    *("n", "first token", "interval holds"),
)
COLUMNS = (
    *("row", "half", "engine", "load", "output tok/s", "predicted", "error", "TPOT or ITL", "predicted", "error"),
    *("TTFT", "predicted", "error", "interval of time", "left open"),
)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """One figure, predicted and observed."""

    predicted: float
    observed: float
    holds: bool

    @property
    def error(self) -> float:
        return self.predicted / self.observed - 1


@dataclass(frozen=True, kw_only=True)
class _Compared:
    row: SpeedRow
    rate: _Pair | None
    time: _Pair | None
    first: _Pair | None
    cells: tuple[str, ...]


def speed_section() -> Section:
    """The section."""
    rows = [row for row in speed_rows() if not row.left_out]
    compared = [_compare(row, predict(row)) for row in rows]
    given = [one for one in compared if one.row.use == "given"]
    left_out = "\n".join(f"- {row.id}: {row.left_out}" for row in speed_rows() if row.left_out)
    parts = [
        HEAD,
        markdown_table(GROUPS, _groups(compared)),
        "### Every row",
        markdown_table(COLUMNS, (one.cells for one in compared)),
        f"Left out:\n\n{left_out}",
        PEER,
        _peer(compared),
        SERIES,
        _series(),
        _hold_out(),
    ]
    rates, times = [one.rate for one in given if one.rate], [one.time for one in given if one.time]
    return Section(
        title="Speed, against published measurements",
        summary=(
            f"{len(rates)} given rows, output throughput median error {_median(rates)}, "
            f"time per token ({len(times)} rows) {_median(times)}; the rows of the checking half: {_checked(compared)}"
        ),
        text="\n\n".join(part.strip() for part in parts),
    )


def _checking(compared: Sequence[_Compared]) -> list[_Compared]:
    return [one for one in compared if one.row.half == "check" and not one.row.chose]


def _checked(compared: Sequence[_Compared]) -> str:
    rows = _checking(compared)
    rates, times = [one.rate for one in rows if one.rate], [one.time for one in rows if one.time]
    held = _held([*rates, *times])
    return f"{_median(rates)} ({len(rates)}) and {_median(times)} ({len(times)}), intervals hold for {held}"


def _groups(compared: Sequence[_Compared]) -> Iterable[tuple[str, ...]]:
    def later(half: str) -> list[_Compared]:
        return [one for one in compared if one.row.use == "extra" and one.row.half == half and not one.row.chose]

    groups = {
        "given": [one for one in compared if one.row.use == "given"],
        "given, none of them chose a factor": [one for one in compared if one.row.use == "given" and not one.row.chose],
        "later, fitting half, none of them chose": later("fit"),
        "later, checking half, none of them chose": later("check"),
        "given and later, checking half, none of them chose": _checking(compared),
        "all": list(compared),
    }
    for name, those in groups.items():
        rates, times = [one.rate for one in those if one.rate], [one.time for one in those if one.time]
        firsts = [one.first for one in those if one.first]
        yield (
            *(name, str(len(rates)), _median(rates), _bias(rates), _held(rates)),
            *(str(len(times)), _median(times), _bias(times), _held(times)),
            *(str(len(firsts)), _median(firsts), _held(firsts)),
        )


def _compare(row: SpeedRow, said: Prediction) -> _Compared:
    low, high = said.interval
    seen, result = row.seen, said.result
    rate = time = None
    if seen.output_tokens_per_second is not None:
        rate = _rate(result.output_tokens_per_second, seen.output_tokens_per_second, said.interval)
    elif seen.total_tokens_per_second is not None:
        rate = _rate(result.total_tokens_per_second, seen.total_tokens_per_second, said.interval)
    if (observed := seen.tpot_ms or seen.itl_ms) is not None:
        time = _time(result.tpot_seconds if seen.tpot_ms else result.itl_seconds, observed, said.interval)
    first = None if seen.ttft_ms is None else _time(result.ttft_seconds, seen.ttft_ms, said.first_token_interval)
    note = "; ".join(part for part in (f"chose: {row.chose}" if row.chose else "", row.note, _other(row)) if part)
    unit = "" if seen.output_tokens_per_second else " total"
    cells = (
        row.id,
        row.half,
        f"{row.tensor_parallel_size * row.pipeline_parallel_size} x {row.gpu}"
        f"{f', PP {row.pipeline_parallel_size}' if row.pipeline_parallel_size > 1 else ''}, vLLM {row.vllm_version}",
        f"{row.prompt_tokens:.0f} in, {row.output_tokens:.0f} out, {row.concurrency} in flight, {row.request_count}",
        *_cells(rate, unit),
        *_cells(time, " ms"),
        *_cells(first, " ms"),
        f"{low:.2f} to {high:.2f}" + ("" if all(pair.holds for pair in (rate, time) if pair) else ", missed"),
        note,
    )
    return _Compared(row=row, rate=rate, time=time, first=first, cells=cells)


def _time(seconds: float, observed_ms: float, interval: tuple[float, float]) -> _Pair:
    low, high = interval
    stated = 1e3 * seconds
    return _Pair(predicted=stated, observed=observed_ms, holds=low * stated <= observed_ms <= high * stated)


def _rate(predicted: float, observed: float, interval: tuple[float, float]) -> _Pair:
    low, high = interval
    return _Pair(predicted=predicted, observed=observed, holds=predicted / high <= observed <= predicted / low)


def _other(row: SpeedRow) -> str:
    if row.or_gpu is None:
        return ""
    result = predict(row.model_copy(update={"gpu": row.or_gpu})).result
    said = f"as {row.or_gpu}: {result.output_tokens_per_second:.1f} tok/s"
    return f"{said}, {1e3 * result.tpot_seconds:.1f} ms" if row.seen.tpot_ms else said


def _cells(pair: _Pair | None, unit: str) -> tuple[str, str, str]:
    if pair is None:
        return "-", "-", "-"
    return f"{pair.observed:.1f}{unit}", f"{pair.predicted:.1f}", f"{pair.error:+.0%}"


def _peer(compared: Sequence[_Compared]) -> str:
    answers = yaml.safe_load((GOLDEN / "speed_peer.yaml").read_text(encoding="utf-8"))["answers"]
    if not answers:
        return "Nothing is recorded yet."
    every = [*compared, *(_compare(row, predict(row)) for row in series_as_rows())]
    lines, refused = [], []
    for quantity, key in (("output throughput", "output_tokens_per_second"), ("time per token", "tpot_ms")):
        for name, wanted in (("rows of this page", False), ("loads of the series", True)):
            both = []
            for one in every:
                pair = one.rate if key == "output_tokens_per_second" else one.time
                if pair and one.row.id.startswith("series-") is wanted and key in answers.get(one.row.id, {}):
                    both.append((pair, answers[one.row.id][key] * _total_ratio(one.row, key)))
            if both:
                theirs = median(abs(peer / pair.observed - 1) for pair, peer in both)
                lines.append((quantity, name, str(len(both)), _median([pair for pair, _ in both]), f"{theirs:.1%}"))
    for one in compared:
        answer = answers.get(one.row.id, {})
        if "tpot_ms" not in answer:
            refused.append(f"- {one.row.id}: {answer.get('refused', 'not asked')}")
    table = markdown_table(("quantity", "rows", "n", "llm-size, median error", "AIConfigurator, median error"), lines)
    return f"{table}\n\nThe peer has no answer for:\n\n" + "\n".join(refused)


def _total_ratio(row: SpeedRow, key: str) -> float:
    """The peer says output tokens; some rows state both directions together."""
    if key != "output_tokens_per_second" or row.seen.output_tokens_per_second is not None:
        return 1.0
    return (row.prompt_tokens + row.output_tokens) / row.output_tokens


def _series() -> str:
    rows = series_rows()
    errors: dict[str, list[float]] = {}
    for row, seconds in zip(rows, series_seconds(rows), strict=True):
        errors.setdefault(row.series, []).append(seconds / row.seen_seconds - 1)
    lines = [
        (name, str(len(those)), f"{median(abs(one) for one in those):.1%}", f"{median(those):+.1%}")
        for name, those in errors.items()
    ]
    every = [abs(one) for those in errors.values() for one in those]
    lines.append(("all", str(len(every)), f"{median(every):.1%}", ""))
    return markdown_table(("series", "n", "median error", "bias"), lines)


def _hold_out() -> str:
    models = yaml.safe_load((GOLDEN / "speed_hold_out.yaml").read_text(encoding="utf-8"))["models"]
    lines = [
        (
            one["model"],
            str(one["count"]),
            f"{one['median_error']:.1%}",
            f"{one['error_p90']:.1%}",
            f"{one['bias']:+.1%}",
        )
        for one in models
    ]
    return markdown_table(("model left out", "n", "median error", "90th percentile", "bias"), lines)


def _median(pairs: Sequence[_Pair]) -> str:
    return f"{median(abs(pair.error) for pair in pairs):.1%}" if pairs else "-"


def _bias(pairs: Sequence[_Pair]) -> str:
    return f"{median(pair.error for pair in pairs):+.1%}" if pairs else "-"


def _held(pairs: Sequence[_Pair]) -> str:
    return f"{sum(pair.holds for pair in pairs) / len(pairs):.0%}" if pairs else "-"
