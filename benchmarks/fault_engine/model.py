"""Model of the fault engine: a vocabulary, a tokenizer and a next token that is a pure function of all ids before it.

A continuation is therefore right if and only if it was asked with exactly the ids that came before, in any process.
Texts are hard on purpose: words come in pieces that the tokenizer would have merged, Korean syllables and emoji come
byte by byte, so the text of an answer hardly ever tokenizes to the answer's own ids.
"""

import re
from collections.abc import Sequence

MASK = (1 << 64) - 1
MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407
WORDS = (
    "the",
    "cache",
    "network",
    "graph",
    "machine",
    "resume",
    "token",
    "stream",
    "river",
    "light",
    "answer",
    "quiet",
)
HALVES = {f" {word}": (f" {word[:2]}", word[2:]) for word in WORDS}
PLAIN = (
    " a",
    " of",
    " and",
    " is",
    ",",
    ".",
    "\n",
    " \n",
    "\t",
    "ing",
    "ed",
    '"',
    "\\",
    " 1",
    "0",
    "</b>",
    "'",
    "  ",
    "é",
    "中",
)
SYLLABLES = ("다", "는", "이", "하", "고", "에", "를", "서", "한", "국")
LEADS = (b"\xeb", b"\xec")  # every continuation of these is a Hangul syllable (U+B000 to U+CFFF)
TAILS = tuple(bytes([byte]) for byte in range(0x80, 0xC0))
LONGEST_CHARACTER_BYTES = 4
UNFINISHED = "unexpected end of data"  # as Python's decoder says it
SECOND_HALF_PERCENT = 85
EMOJI_THIRD = (b"\x98", b"\x8d", b"\x9a")

_PIECES: list[bytes] = [bytes([byte]) for byte in range(256)]
for _whole, _parts in HALVES.items():
    _PIECES += [text.encode() for text in (_whole, *_parts)]
_PIECES += [text.encode() for text in (*PLAIN, *SYLLABLES)]
_PIECES += [lead + tail for lead in LEADS for tail in TAILS] + [b"\xf0\x9f"]
PIECES: tuple[bytes, ...] = tuple(dict.fromkeys(_PIECES))
ID_OF = {piece: index for index, piece in enumerate(PIECES)}
IM_START, IM_END, THINK, END_THINK = range(len(PIECES), len(PIECES) + 4)
SPECIAL = {IM_START: "<|im_start|>", IM_END: "<|im_end|>", THINK: "<think>", END_THINK: "</think>"}
VOCABULARY_COUNT = len(PIECES) + len(SPECIAL)

_LONGEST_FIRST = re.compile(
    b"|".join(re.escape(piece) for piece in sorted(PIECES, key=len, reverse=True) if len(piece) > 1) + b"|(?s:.)"
)
_FIRST_HALVES = {ID_OF[first.encode()]: ID_OF[second.encode()] for first, second in HALVES.values()}
_WORD_IDS = [ID_OF[whole.encode()] for whole in HALVES]
_HALF_IDS = list(_FIRST_HALVES)
_PLAIN_IDS = [ID_OF[text.encode()] for text in (*PLAIN, *SYLLABLES)]
_HANGUL_IDS = [ID_OF[lead] for lead in LEADS] * 8 + [ID_OF[lead + tail] for lead in LEADS for tail in TAILS[:16]]
_EMOJI_IDS = [ID_OF[b"\xf0"], ID_OF[b"\xf0\x9f"]]
_PER_CENT = [_WORD_IDS] * 20 + [_HALF_IDS] * 25 + [_HANGUL_IDS] * 20 + [_EMOJI_IDS] * 7 + [_PLAIN_IDS] * 28


def encode(text: str) -> list[int]:
    """Ids of a text, longest piece first: not the ids that the model would have generated for it."""
    return [ID_OF[piece] for piece in _LONGEST_FIRST.findall(text.encode("utf-8", "surrogatepass"))]


def piece_of(token: int) -> bytes:
    """Bytes of one token; none of a special one."""
    return PIECES[token] if token < len(PIECES) else b""


def name_of(token: int) -> str:
    """A token as log probabilities show it."""
    return SPECIAL.get(token) or piece_of(token).decode("utf-8", "replace")


def held_back(tokens: Sequence[int]) -> bytes:
    """The bytes of an unfinished character at the end."""
    tail = b"".join(piece_of(token) for token in tokens[-LONGEST_CHARACTER_BYTES:])[1 - LONGEST_CHARACTER_BYTES :]
    for start in range(len(tail)):
        try:
            tail[start:].decode()
        except UnicodeDecodeError as error:
            if error.start == 0 and error.reason == UNFINISHED:
                return tail[start:]
    return b""


def digest_of(tokens: Sequence[int], *, weights: int) -> int:
    """The state that all ids lead to. Engines answer alike if and only if their weights are equal."""
    state = weights & MASK
    for token in tokens:
        state = (state * MULTIPLIER + token + INCREMENT) & MASK
    return state


def absorb(state: int, token: int) -> int:
    """The state after one more id."""
    return (state * MULTIPLIER + token + INCREMENT) & MASK


def draw(state: int) -> int:
    """Evenly spread bits of a state."""
    mixed = (state ^ (state >> 31)) * 0x9E3779B97F4A7C15 & MASK
    return (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9 >> 17 & 0x7FFFFFFFFFFF


def next_token(drawn: int, *, last: int, unfinished: bytes) -> int:
    """What comes next: the rest of a character first, then often the second half of a word, else anything."""
    choice, drawn = drawn % 100, drawn // 100
    if unfinished:
        return _continued(unfinished, choice, drawn)
    if last in _FIRST_HALVES and choice < SECOND_HALF_PERCENT:
        return _FIRST_HALVES[last]
    ids = _PER_CENT[choice]
    return ids[drawn % len(ids)]


def _continued(unfinished: bytes, choice: int, drawn: int) -> int:
    if unfinished == b"\xf0":
        return ID_OF[b"\x9f"]
    if unfinished == b"\xf0\x9f":
        return ID_OF[EMOJI_THIRD[choice % len(EMOJI_THIRD)]]
    return ID_OF[TAILS[drawn % len(TAILS)]]
