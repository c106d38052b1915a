"""Corpus: endless, seeded, meaningful text in English and Korean, so that prompts cost real tokens and never repeat.

The sentences are this project's own (Apache-2.0). Korean particles follow the final consonant of the word before them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import yaml

_SLOT = re.compile(r"\{(\w+)\}")
_PARTICLE = re.compile(r"(.)\[([^/\]]+)/([^\]]+)\]")
_HANGUL_FIRST, _HANGUL_LAST, _FINALS = 0xAC00, 0xD7A3, 28
_FINAL_RIEUL = 8


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One language's templates and words."""

    characters_per_token: float
    task: str
    sentences: Sequence[str]
    slots: Mapping[str, Sequence[str]]

    def sentence(self, random: Random) -> str:
        """One sentence with its slots filled."""

        def word(match: re.Match[str]) -> str:
            slot = match[1]
            return str(random.randint(2, 9999)) if slot == "number" else random.choice(self.slots[slot])

        filled = _SLOT.sub(word, random.choice(self.sentences))
        return _PARTICLE.sub(_with_particle, filled)

    def text(self, random: Random) -> Iterator[str]:
        """Sentences without end."""
        while True:
            yield self.sentence(random)

    def text_of(self, characters: int, random: Random) -> str:
        """Text of exactly `characters` characters; its last sentence may be cut."""
        parts: list[str] = []
        length = -1
        for sentence in self.text(random):
            parts.append(sentence)
            length += len(sentence) + 1
            if length >= characters:
                break
        return " ".join(parts)[:characters]


@cache
def corpus(language: str) -> Corpus:
    """The corpus of `en` or `ko`."""
    content = yaml.safe_load((Path(__file__).parent / f"{language}.yaml").read_text(encoding="utf-8"))
    return Corpus(**content)


def _with_particle(match: re.Match[str]) -> str:
    before, after_consonant, after_vowel = match.groups()
    code = ord(before)
    final = (code - _HANGUL_FIRST) % _FINALS if _HANGUL_FIRST <= code <= _HANGUL_LAST else 0
    vowel_like = final == 0 or (final == _FINAL_RIEUL and after_consonant == "으로")
    return before + (after_vowel if vowel_like else after_consonant)
