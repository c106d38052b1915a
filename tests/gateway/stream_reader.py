"""The half of a gateway that reads engines: LiteLLM's own library in one process, timed and looked at.

Run by the gateway's interpreter, started by measure_stream.py. Ways take turns; CPU seconds are this process's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litellm
import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES_PER_SECOND = 200


async def one_stream(way: dict[str, Any], number: int, tokens: int) -> tuple[list[float], str]:
    """When its chunks came, and its text."""
    answer = await litellm.acompletion(
        model="hosted_vllm/tiny",
        api_base=way["api_base"],
        api_key=os.environ["VLLM_API_KEY"],
        messages=[{"role": "user", "content": f"stream {number}"}],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=tokens,
        temperature=0,
    )
    times, text = [time.perf_counter()], ""
    async for chunk in answer:
        chunk.model_dump_json(exclude_none=True, exclude_unset=True)
        times.append(time.perf_counter())
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
    return times[1:], text


async def streams(way: dict[str, Any], given: dict[str, Any]) -> tuple[float, list[float], int, list[str]]:
    """(microseconds a token, gaps in ms, chunks, texts) of all streams at once."""
    before = time.process_time()
    heard = await asyncio.gather(*(one_stream(way, n, given["tokens"]) for n in range(given["streams"])))
    spent = (time.process_time() - before) / (given["streams"] * given["tokens"]) * 1e6
    gaps = [(b - a) * 1000 for times, _ in heard for a, b in zip(times, times[1:])]  # noqa: B905, RUF007
    return spent, gaps, sum(len(times) for times, _ in heard), [text for _, text in heard]


@contextmanager
def watched(path: Path, py_spy: str) -> Iterator[None]:
    """py-spy's stacks of this process."""
    command = [
        py_spy, "record", "--nonblocking", "--format", "raw", "--full-filenames", "--duration", "300",
        "--rate", str(SAMPLES_PER_SECOND), "--pid", str(os.getpid()), "--output", str(path),
    ]  # fmt: skip
    with path.with_suffix(".log").open("wb") as log:
        watcher = subprocess.Popen(command, stdout=log, stderr=log)
    time.sleep(1)
    try:
        yield
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.wait(timeout=60)


async def main() -> None:
    """Prints a table, and leaves cost.json and stacks in the folder."""
    given = json.loads(sys.stdin.read())
    ways, folder = given["ways"], Path(given["folder"])
    seen: dict[str, list[tuple[float, list[float], int]]] = {label: [] for label in ways}
    texts: dict[str, list[str]] = {}
    for number in range(-1, given["rounds"]):
        labels = list(ways) if number % 2 == 0 else list(reversed(ways))
        for label in labels:
            spent, gaps, count, texts[label] = await streams(ways[label], given)
            if number >= 0:  # the first round does what is done once
                seen[label].append((spent, gaps, count))
    assert len({tuple(one) for one in texts.values()}) == 1, "the ways gave different texts"
    content = {}
    for label, rounds in seen.items():
        microseconds = statistics.median(spent for spent, _, _ in rounds)
        gap = statistics.median(gap for _, gaps, _ in rounds for gap in gaps)
        each = ", ".join(f"{spent:.0f}" for spent, _, _ in rounds)
        print(f"{ways[label]['name']} | {microseconds:.0f} ({each}) | {rounds[-1][2]} chunks | gap {gap:.1f} ms")
        content[label] = {"name": ways[label]["name"], "chunk": {"worker": microseconds, "all": microseconds}}
    about = {**{name: given[name] for name in ("streams", "tokens", "itl_ms")}, "load": round(os.getloadavg()[0], 1)}
    (folder / "cost.json").write_text(json.dumps({"about": about, "arrangements": content}, indent=2))
    print(about)
    for label in given["looked_at"] if given["py_spy"] else ():
        with watched(folder / f"{label}-chunk.txt", given["py_spy"]):
            await streams(ways[label], given)


uvloop.run(main())  # as the gateway's own server does
