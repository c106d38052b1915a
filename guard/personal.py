"""Personal data by pattern and checksum: resident registration, phone, card and account numbers, email addresses.

Each finder takes a text and gives the places. They look at a text's characters and at what stands a little before and
behind (`CONTEXT_BEFORE`, `CONTEXT_BEHIND`), never further: so a stream that is looked at in windows gives the same
places as the whole text (tail.py). Full-width digits and the dashes that word processors make count as plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date

from guard.spans import Span

RRN, PHONE, CARD, ACCOUNT, EMAIL = "KR_RRN", "PHONE", "CARD", "BANK_ACCOUNT", "EMAIL"
CONTEXT_BEFORE, CONTEXT_BEHIND = 40, 16

_PLAIN = str.maketrans(
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff20\uff0e\uff0d\u2010\u2011\u2012\u2013\u2014\u2212"
    "\u00a0\u3000\uff08\uff09\uff0b",
    "0123456789@." + "-" * 7 + "  ()+",
)
_BETWEEN = r"(?: ?[-.] ?| )"
_RRN_GROUPED = re.compile(rf"(?<!\d)(\d{{6}}){_BETWEEN}([1-8]\d{{6}})(?!\d)")
_RRN_UNBROKEN = re.compile(r"(?<![0-9A-Za-z])(\d{6})([1-8]\d{6})(?![0-9A-Za-z])")
_RRN_WORDS = re.compile(
    r"주민|등록\s?번호|외국인|(?<![a-z])rrn(?![a-z])|resident registration|foreigner registration", re.I
)
_CARD = re.compile(
    r"(?<!\d)(?<!\d[-.])(?:[2-69]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -])\d{6}\2\d{5}|[2-69]\d{12,18})(?![-.]?\d)"  # noqa: E501
)
# Mobile numbers, the area codes of the landlines, 050x and 070; 1588 and the like belong to companies.
_PHONE_KR = re.compile(
    rf"(?<![0-9+])(?<!\d[-.])(?:\(0(?:2|[3-6]\d|70)\) ?|0(?:1[016789]|2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[2-8])({_BETWEEN}))"  # noqa: E501
    rf"\d{{3,4}}{_BETWEEN}\d{{4}}(?![-.]?\d)"
)
_MOBILE_UNBROKEN = re.compile(r"(?<![0-9A-Za-z])01[016789]\d{7,8}(?![0-9A-Za-z])")
_LANDLINE_UNBROKEN = re.compile(r"(?<![0-9A-Za-z])0(?:2\d{7,8}|[3-6][1-5]\d{7,8}|70\d{8})(?![0-9A-Za-z])")
_PHONE_WORLD = re.compile(r"(?<![0-9A-Za-z+])(?:\+|00(?=[1-9]))(?:\d[ .()-]{0,2}){6,14}\d(?![-.]?\d)")
_PHONE_US = re.compile(
    r"(?<![0-9+])(?<!\d[-.])(?:1[ .-])?(?:\(([2-9]\d\d)\) ?|([2-9]\d\d)[ .-])([2-9]\d\d)[ .-]\d{4}(?![-.]?\d)"
)
_US_UNBROKEN = re.compile(r"(?<![0-9A-Za-z])1?([2-9]\d\d)([2-9]\d\d)\d{4}(?![0-9A-Za-z])")
_PHONE_WORDS = re.compile(r"전화|연락처|휴대|핸드폰|팩스|(?<![a-z])(?:phone|tel|mobile|cell|call|fax|contact)", re.I)
_ACCOUNT = re.compile(r"(?<!\d)(?<!\d[-.])(?:\d{2,6}([- ])\d{2,6}\1\d{2,8}(?:\1\d{1,3})?|\d{10,14})(?![-.]?\d)")
_ACCOUNT_WORDS = re.compile(
    r"계좌|통장|입금|송금|이체|예금|은행|뱅크|농협|축협|수협|신협|새마을|우체국|국민|신한|하나|우리|기업|카카오|토스"
    r"|(?<![a-z])(?:account|acct|a/c|bank|iban|deposit|remit|transfer|kb|nh|ibk|sc)(?![a-z])", re.I
)  # fmt: skip
_WORLD_DIGITS, _ACCOUNT_DIGITS = range(8, 16), range(10, 15)
_COMPANY_NUMBER = re.compile(r"\d{3}-\d{2}-\d{5}")
_COMPANY_WORDS = re.compile(r"사업자|법인|business registration", re.I)
_ADDRESS = re.compile(r"[A-Za-z0-9._%+\-]{1,64}\Z")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9가-힣](?:[A-Za-z0-9가-힣-]{0,61}[A-Za-z0-9가-힣])?\.){1,8}(?:[A-Za-z]{2,24}|한국)(?![A-Za-z0-9-])"
)


def plain(text: str) -> str:
    """The same text, character by character, in plain digits, dashes and blanks."""
    return text if text.isascii() else text.translate(_PLAIN)


def resident_numbers(text: str) -> Iterator[Span]:
    """Korean resident registration numbers, of Koreans (7th digit 1-4) and foreigners (5-8).

    Numbers given out since October 2020 have no checksum, to whomever, so one that is written in its usual form needs a
    birthday only. Thirteen digits without a break need more: a checksum, a birthday since then, or a word beside them.
    """
    for found in _RRN_GROUPED.finditer(text):
        birthday = _birthday(found[1], found[2][0])
        if birthday is not None:
            yield _span(found, RRN, 0.95 if _rrn_checks(found[1] + found[2]) else 0.85)
    for found in _RRN_UNBROKEN.finditer(text):
        birthday = _birthday(found[1], found[2][0])
        if birthday is None:
            continue
        if _rrn_checks(found[0]) or birthday >= date(2020, 10, 1) or _beside(_RRN_WORDS, text, found):
            yield _span(found, RRN, 0.9)


def cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards: a first digit that cards have, groups as cards have them, and Luhn's checksum."""
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if _luhn_checks(digits) and len(set(digits)) > 1:
            yield _span(found, CARD, 0.92)


def phones(text: str) -> Iterator[Span]:
    """Phone numbers: Korean ones, American ones, and any with a country's code."""
    for pattern in (_PHONE_KR, _MOBILE_UNBROKEN):
        for found in pattern.finditer(text):
            yield _span(found, PHONE, 0.8)
    for found in _PHONE_WORLD.finditer(text):
        if sum(map(str.isdigit, found[0])) in _WORLD_DIGITS:
            yield _span(found, PHONE, 0.8)
    for found in _PHONE_US.finditer(text):
        if not (found[1] or found[2]).endswith("11") and not found[3].endswith("11"):
            yield _span(found, PHONE, 0.75)
    for pattern in (_LANDLINE_UNBROKEN, _US_UNBROKEN):
        for found in pattern.finditer(text):
            if _beside(_PHONE_WORDS, text, found):
                yield _span(found, PHONE, 0.7)


def accounts(text: str) -> Iterator[Span]:
    """Bank account numbers: ten to fourteen digits, beside a bank's name or a word of payment."""
    for found in _ACCOUNT.finditer(text):
        if sum(map(str.isdigit, found[0])) not in _ACCOUNT_DIGITS or not _beside(_ACCOUNT_WORDS, text, found):
            continue
        if not (_COMPANY_NUMBER.fullmatch(found[0]) and _beside(_COMPANY_WORDS, text, found)):
            yield _span(found, ACCOUNT, 0.6)


def emails(text: str) -> Iterator[Span]:
    """Email addresses, also those of Korean domains."""
    at = text.find("@")
    while at >= 0:
        local = _ADDRESS.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1)
        if local is not None and domain is not None:
            yield Span(start=local.start(), end=domain.end(), label=EMAIL, score=0.9)
        at = text.find("@", at + 1)


FINDERS: Mapping[str, Callable[[str], Iterator[Span]]] = {
    RRN: resident_numbers, CARD: cards, PHONE: phones, ACCOUNT: accounts, EMAIL: emails
}  # fmt: skip


def _span(found: re.Match[str], label: str, score: float) -> Span:
    return Span(start=found.start(), end=found.end(), label=label, score=score)


def _beside(words: re.Pattern[str], text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - CONTEXT_BEFORE) : found.start()]
    return bool(words.search(before) or words.search(text[found.end() : found.end() + CONTEXT_BEHIND]))


def _birthday(digits: str, generation: str) -> date | None:
    """What the first seven digits say, where there is such a day and it is not to come."""
    century = 1900 if generation in "1256" else 2000
    try:
        day = date(century + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
    except ValueError:
        return None
    return day if day <= date.today() else None


def _rrn_checks(digits: str) -> bool:
    """The checksum of numbers given out before October 2020; that of foreigners is two more."""
    total = sum(
        int(digit) * weight for digit, weight in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False)
    )
    expected = (11 - total % 11) % 10
    return int(digits[12]) == ((expected + 2) % 10 if digits[6] in "5678" else expected)


def _luhn_checks(digits: str) -> bool:
    # Places count from the right, from one: every second one is doubled.
    doubled = [int(digit) * (1 if place % 2 else 2) for place, digit in enumerate(reversed(digits), start=1)]
    return sum(sum(divmod(value, 10)) for value in doubled) % 10 == 0
