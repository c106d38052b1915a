"""Tokens: how long a text is, in the model's own tokens where its tokenizer is at hand, estimated by characters
otherwise.

Only used while prompts are made, never while streams are read.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from benchmarks.corpus import Corpus
from benchmarks.errors import BadLoad


class Ruler(Protocol):
    """Measures text."""

    def count(self, text: str, source: Corpus) -> int: ...

    def cut(self, text: str, tokens: int, source: Corpus) -> str: ...

    def text_of(self, tokens: int, source: Corpus, random: Random) -> str: ...


@dataclass(frozen=True)
class Estimate:
    """Characters per token of the language: good to some 20 %, and the server's own count is in every record."""

    def count(self, text: str, source: Corpus) -> int:
        """Tokens of `text`, rounded up."""
        return math.ceil(len(text) / source.characters_per_token)

    def cut(self, text: str, tokens: int, source: Corpus) -> str:
        """The first `tokens` tokens of `text`."""
        return text[: round(tokens * source.characters_per_token)]

    def text_of(self, tokens: int, source: Corpus, random: Random) -> str:
        """New text of `tokens` tokens."""
        return source.text_of(round(tokens * source.characters_per_token), random)


class Exact:
    """The model's own tokenizer (Hugging Face `tokenizers`)."""

    def __init__(self, file: Path) -> None:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415  only runs that count exactly need the library
        except ImportError:
            raise BadLoad("a `tokenizer` needs the `tokenizers` library; install it or leave it out") from None
        path = file / "tokenizer.json" if file.is_dir() else file
        if not path.is_file():
            raise BadLoad(f"{path}: no such tokenizer")
        self._tokenizer = Tokenizer.from_file(str(path))

    def count(self, text: str, source: Corpus) -> int:  # noqa: ARG002  same shape as Estimate
        """Tokens of `text`, exactly."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def cut(self, text: str, tokens: int, source: Corpus) -> str:  # noqa: ARG002
        """The first `tokens` tokens of `text`."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if tokens >= len(offsets) else text[: offsets[tokens][0]]

    def text_of(self, tokens: int, source: Corpus, random: Random) -> str:
        """New text of `tokens` tokens; cutting inside a word can leave it one or two short, never longer."""
        characters = round(tokens * source.characters_per_token * 1.5) + 64
        text = source.text_of(characters, random)
        while self.count(text, source) < tokens:
            text += " " + source.text_of(characters, random)
        text = self.cut(text, tokens, source)
        while self.count(text, source) > tokens:
            text = text[:-1]
        return text


def ruler_for(tokenizer: Path | None) -> Ruler:
    """The exact ruler if a tokenizer is given, else the estimate."""
    return Exact(tokenizer) if tokenizer is not None else Estimate()
