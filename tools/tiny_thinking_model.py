#!/usr/bin/env python3
"""A tiny Qwen3 that thinks: the model of make_tiny_models.py whose vocabulary has `<think>` and `</think>`.

As in Qwen's own tokenizer both are single tokens and no special ones. With random weights a thought ends by chance:
the row of `</think>` is larger than the others, so that most answers of some dozens of tokens have an end, and that of
`<think>` is zero.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tools.make_tiny_models import HEAD_DEVIATION, HIDDEN, MODELS, bfloat16, make, write_manifest

NAME, OPENING, CLOSING = "tiny-qwen3-thinking", "<think>", "</think>"
CLOSING_DEVIATION = 1.6 * HEAD_DEVIATION
LENGTH_BYTES = 8  # how long the head of a safetensors file is


def make_thinking(out: Path, seed: int = 0) -> Path:
    """Write the model's folder."""
    plain = next(one for one in MODELS if one.name == "tiny-qwen3")
    marked = dataclasses.replace(plain, name=NAME, special_tokens=(*plain.special_tokens, OPENING, CLOSING))
    folder = make(marked, out, seed)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {}
    for token in tokenizer["added_tokens"]:
        if token["content"] in {OPENING, CLOSING}:
            token["special"] = False
            ids[token["content"]] = int(token["id"])
    _write(folder / "tokenizer.json", tokenizer)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = [token for token in settings["additional_special_tokens"] if token not in ids]
    _write(folder / "tokenizer_config.json", settings | {"additional_special_tokens": kept})
    _write_row(folder / "model.safetensors", "lm_head.weight", ids[OPENING], bytes(2 * HIDDEN))
    row = np.random.default_rng(seed + 1).standard_normal(HIDDEN) * CLOSING_DEVIATION
    _write_row(folder / "model.safetensors", "lm_head.weight", ids[CLOSING], bfloat16(row.astype(np.float32)).tobytes())
    _list_again(folder)
    return folder


def _list_again(folder: Path) -> None:
    """The list of what has changed; it does not list itself."""
    (folder / "MANIFEST.sha256").unlink()
    write_manifest(folder)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_row(path: Path, tensor: str, row: int, values: bytes) -> None:
    content = bytearray(path.read_bytes())
    head_bytes = int.from_bytes(content[:LENGTH_BYTES], "little")
    head = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + head_bytes])
    start = LENGTH_BYTES + head_bytes + head[tensor]["data_offsets"][0] + row * len(values)
    content[start : start + len(values)] = values
    path.write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    """Parse, make it, print its folder, and return the exit code."""
    parser = argparse.ArgumentParser(description="Make a tiny random-weight Qwen3 whose answers begin with a thought.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to hold the model's folder")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    options = parser.parse_args(arguments)
    print(make_thinking(options.out, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
