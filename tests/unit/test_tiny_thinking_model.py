"""The tiny model that thinks: its marks are single tokens that text may show, and one of them comes often."""

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from tools.tiny_thinking_model import CLOSING, OPENING, main


def test_the_marks_of_a_thought_are_single_tokens_that_are_shown(tmp_path: Path) -> None:
    assert 0 == main(["--out", str(tmp_path)])
    folder = tmp_path / "tiny-qwen3-thinking"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    ids = tokenizer.encode(f"so{CLOSING}yes", add_special_tokens=False).ids

    assert tokenizer.token_to_id(CLOSING) in ids
    assert f"so{CLOSING}yes" == tokenizer.decode(ids, skip_special_tokens=True)
    assert OPENING not in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    for line in (folder / "MANIFEST.sha256").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest(), name
