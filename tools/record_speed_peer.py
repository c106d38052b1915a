#!/usr/bin/env python3
"""Ask AIConfigurator about the rows of docs/accuracy.md, and record its answers beside ours.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install aiconfigurator==0.12.0
    .venv/bin/python -m tools.record_speed_peer --aiconfigurator /tmp/peer/bin/aiconfigurator

It runs offline from its own measured tables (Apache-2.0). It is asked for the mean lengths of a row and the largest
batch that the row's concurrency and the cache allow; what it cannot answer is recorded in its own words.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from sizing.catalogue import catalogue_text
from sizing.errors import UnknownFact
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
ANSWER_SECONDS = 300
_TPOT = re.compile(r"TPOT:\s+([\d.]+) ms")
_RATE = re.compile(r"tokens/s:\s+([\d.]+)")
_ERROR = re.compile(r"(?:Error|ERROR|\[E\]).*?[:\]]\s*(.+)")


@dataclass(frozen=True, kw_only=True)
class _Answer:
    tpot_ms: float | None = None
    output_tokens_per_second: float | None = None
    refused: str = ""


def main() -> int:
    """Ask and record."""
    parser = argparse.ArgumentParser(description="Record what AIConfigurator says about the rows.")
    parser.add_argument("--aiconfigurator", required=True, help="its command, in an environment of its own")
    arguments = parser.parse_args()
    answers = {}
    for row in _rows():
        answer = _ask(arguments.aiconfigurator, row)
        answers[row.id] = {key: value for key, value in vars(answer).items() if value}
        print(f"{row.id}: {answers[row.id]}", file=sys.stderr)
    head = "# Made by tools/record_speed_peer.py: aiconfigurator 0.12.0 (Apache-2.0), `cli estimate`, vLLM tables.\n"
    RECORD.write_text(head + yaml.safe_dump({"answers": answers}, sort_keys=True, width=120), encoding="utf-8")
    return 0


def _rows() -> Iterator[SpeedRow]:
    yield from (row for row in speed_rows() if not row.left_out)
    yield from series_as_rows()


def _ask(command: str, row: SpeedRow) -> _Answer:
    system = SYSTEMS.get(row.gpu)
    if system is None:
        return _Answer(refused=f"no tables for {row.gpu}")
    with tempfile.TemporaryDirectory() as directory:
        try:
            text = catalogue_text(f"models/{row.model.replace('/', '__')}.json")
        except FileNotFoundError:
            raise UnknownFact(f"{row.model} is not in the catalogue; the row cannot be asked") from None
        (Path(directory) / "config.json").write_text(text, encoding="utf-8")
        argv = [command, "cli", "estimate", "--model-path", directory, "--system", system, "--backend", "vllm"]
        argv += ["--isl", str(round(row.prompt_tokens)), "--osl", str(round(row.output_tokens))]
        argv += ["--batch-size", str(batch_limit(row)), "--tp-size", str(row.tensor_parallel_size)]
        argv += ["--pp-size", str(row.pipeline_parallel_size)]
        if row.prefix_tokens:
            argv += ["--prefix", str(row.prefix_tokens)]
        if row.stored_as is not None:
            argv += ["--gemm-quant-mode", "int4_wo"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    said = done.stdout + done.stderr
    tpot, rate = _TPOT.search(said), _RATE.search(said)
    if tpot is None or rate is None:
        errors = _ERROR.findall(said) or said.strip().splitlines()[-1:] or ["no answer"]
        return _Answer(refused=str(errors[-1])[:160])
    return _Answer(tpot_ms=float(tpot[1]), output_tokens_per_second=float(rate[1]))


if __name__ == "__main__":
    sys.exit(main())
