#!/usr/bin/env python3
"""Ask AIConfigurator about the rows of docs/accuracy.md, and record its answers beside ours.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install aiconfigurator==0.12.0
    .venv/bin/python -m tools.record_speed_peer --python /tmp/peer/bin/python

It runs offline from its own measured tables (Apache-2.0). It is asked for the mean lengths of a row and the largest
batch that the row's concurrency and the cache allow; what it cannot answer is recorded in its own words.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from sizing.catalogue import catalogue_text
from sizing.model_facts import load_model_facts
from tools.speed_rows import SpeedRow, batch_limit, series_as_rows, speed_rows

RECORD = Path(__file__).resolve().parents[1] / "tests" / "golden" / "speed_peer.yaml"
SYSTEMS = {
    "H100-SXM": "h100_sxm",
    "H100-PCIe": "h100_pcie",
    "H200-SXM": "h200_sxm",
    "A100-SXM4-80GB": "a100_sxm",
    "L40S": "l40s",
    "L4": "l4",
    "B200": "b200_sxm",
}
ASKING = """
import contextlib, io, json, sys
from aiconfigurator.main import main
for name, (batch, argv) in json.load(sys.stdin).items():
    while True:
        said = io.StringIO()
        sys.argv = ["aiconfigurator", *argv, "--batch-size", str(batch)]
        try:
            with contextlib.redirect_stdout(said):
                main()
        except BaseException as error:
            said.write(f"{type(error).__name__}: {' '.join(str(error).split())}")
        if "tokens/s:" in said.getvalue() or batch == 1:
            break
        batch = max(1, batch // 2)
    print(json.dumps((name, batch, said.getvalue())), flush=True)
"""
"""Runs in the peer's interpreter; a batch that it says does not fit is halved until it answers."""

_TPOT = re.compile(r"TPOT:\s+([\d.,]+) ms")
_PATH = re.compile(r"(?<=\s)/\S+")
_RATE = re.compile(r"tokens/s:\s+([\d.,]+)")


def main() -> int:
    """Ask and record."""
    parser = argparse.ArgumentParser(description="Record what AIConfigurator says about the rows.")
    parser.add_argument("--python", required=True, help="the interpreter of the environment that it is installed in")
    arguments = parser.parse_args()
    answers: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as directory:
        questions = {}
        for row in _rows():
            if row.gpu not in SYSTEMS:
                answers[row.id] = {"refused": f"no tables for {row.gpu}"}
            else:
                questions[row.id] = (batch_limit(row), _question(row, Path(directory)))
        asked = subprocess.run(
            [arguments.python, "-W", "ignore", "-c", ASKING],
            input=json.dumps(questions),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    for line in asked.stdout.splitlines():
        name, batch, said = json.loads(line)
        answers[name] = _answer(batch, said)
    head = "# Made by tools/record_speed_peer.py: aiconfigurator 0.12.0 (Apache-2.0), `cli estimate`, vLLM tables.\n"
    RECORD.write_text(head + yaml.safe_dump({"answers": answers}, sort_keys=True, width=120), encoding="utf-8")
    return 0


def _answer(batch: int, said: str) -> dict[str, object]:
    tpot, rate = _TPOT.search(said), _RATE.search(said)
    if tpot is None or rate is None:
        last = (said.strip().splitlines() or ["no answer"])[-1].removeprefix("SystemExit: Error: ")
        return {"refused": _PATH.sub("...", last)[:160]}
    return {
        "batch": batch,
        "tpot_ms": float(tpot[1].replace(",", "")),
        "output_tokens_per_second": float(rate[1].replace(",", "")),
    }


def _rows() -> Iterator[SpeedRow]:
    yield from (row for row in speed_rows() if not row.left_out)
    yield from series_as_rows()


def _question(row: SpeedRow, directory: Path) -> list[str]:
    """Its command line, without the batch."""
    name = row.model.replace("/", "__")
    home = directory / name
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(catalogue_text(f"models/{name}.json"), encoding="utf-8")
    argv = ["cli", "estimate", "--model-path", str(home), "--system", SYSTEMS[row.gpu], "--backend", "vllm"]
    argv += ["--isl", str(round(row.prompt_tokens)), "--osl", str(round(row.output_tokens))]
    argv += ["--tp-size", str(row.tensor_parallel_size), "--pp-size", str(row.pipeline_parallel_size)]
    if load_model_facts(row.model).experts is not None:
        argv += ["--moe-tp-size", str(row.tensor_parallel_size), "--moe-ep-size", "1"]
    if row.prefix_tokens:
        argv += ["--prefix", str(row.prefix_tokens)]
    if row.stored_as is not None:
        argv += ["--gemm-quant-mode", "int4_wo"]
    return argv


if __name__ == "__main__":
    sys.exit(main())
