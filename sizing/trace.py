"""Trace: requests that somebody recorded, read from a file: when each came, and how long it was.

CSV with the heading `seconds,prompt_tokens,output_tokens`, or one JSON object a line with the same names. Seconds count
from any moment; the first request becomes time 0. Further columns are ignored, so that logs can be used as they are.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from sizing.errors import DocumentError

COLUMNS = ("seconds", "prompt_tokens", "output_tokens")
MOST_REQUESTS = 20_000
"""A longer trace is simulated many times over, and nobody would wait for it."""

LONGEST_TOKENS = 10_000_000

Trace = tuple[tuple[float, int, int], ...]
"""Seconds since the first request, prompt tokens, output tokens; in the order of the times."""


def read_trace(path: Path) -> Trace:
    """Raises DocumentError, in one line, for files that are no trace."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path}: cannot be read: {error}") from None
    found = sorted(_request(cells, f"{path}:{line}") for line, cells in _rows(text, path))
    if len(found) < 2:  # noqa: PLR2004 - one request has no rate
        raise DocumentError(f"{path}: holds {len(found)} requests; a trace needs at least 2")
    if len(found) > MOST_REQUESTS:
        raise DocumentError(f"{path}: holds {len(found):,} requests; cut it to the busiest {MOST_REQUESTS:,} or fewer")
    start = found[0][0]
    if found[-1][0] == start:
        raise DocumentError(f"{path}: every request comes at the same moment; a trace needs times")
    return tuple((seconds - start, prompt, output) for seconds, prompt, output in found)


def thinned(trace: Trace, engine_count: int) -> Trace:
    """What one of so many engines gets when they take turns."""
    return trace[::engine_count]


def hastened(trace: Trace, factor: float) -> Trace:
    """The same requests, coming `factor` times as fast."""
    return tuple((seconds / factor, prompt, output) for seconds, prompt, output in trace)


def _rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    lines = text.splitlines()
    if text.lstrip().startswith("{"):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    cells = json.loads(line)
                except ValueError as error:
                    raise DocumentError(f"{path}:{number}: is not JSON: {error}") from None
                if not isinstance(cells, dict):
                    raise DocumentError(f"{path}:{number}: is not a JSON object")
                yield number, cells
        return
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DocumentError(f"{path}: has no column {', '.join(missing)}; its heading must name {', '.join(COLUMNS)}")
    for cells in reader:
        yield reader.line_num, cells


def _request(cells: Mapping[str, object], where: str) -> tuple[float, int, int]:
    seconds, prompt, output = (_number(cells, name, where) for name in COLUMNS)
    for name, tokens in (("prompt_tokens", prompt), ("output_tokens", output)):
        if not 1 <= tokens <= LONGEST_TOKENS or tokens != int(tokens):
            raise DocumentError(f"{where}: {name} is {tokens:g}; a whole number of at least 1 is needed")
    return seconds, int(prompt), int(output)


def _number(cells: Mapping[str, object], name: str, where: str) -> float:
    value = cells.get(name)
    try:
        number = float(str(value)) if not isinstance(value, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise DocumentError(f"{where}: {name} is {value!r}; a number is needed")
    return number
