"""Prompts that try to take over: phrases by which they are known, weighed, in Korean and English.

A heuristic: it knows what has been seen, and sees through case, odd blanks, letters of other widths and invisible
characters; it does not understand. What users and tools say is looked at; a system prompt may talk about injections.
Every sign that is found adds its weight, each kind once; one weighs at most 1.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

ROLES = frozenset({"user", "tool", "function"})
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]|[\U000e0000-\U000e007f]")
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A kind of phrase and how much it says."""

    name: str
    weight: float
    pattern: re.Pattern[str]


def _sign(name: str, weight: float, *patterns: str) -> Sign:
    return Sign(name=name, weight=weight, pattern=re.compile("|".join(patterns)))


_INSTRUCTIONS = r"(?:instructions?|prompts?|rules|guidelines|directions|context|commands|messages?)"
SIGNS = (
    _sign(
        "sets earlier instructions aside", 0.8,
        rf"\b(?:ignore|disregard|forget|override|bypass|drop)\b.{{0,30}}\b(?:all|any|every|previous|prior|above|earlier|preceding|"
        rf"initial|your|the|these|those)\b.{{0,30}}\b{_INSTRUCTIONS}\b",
        r"(?:이전|앞선?|앞의|위의?|기존|지금까지의?|모든)\s?(?:모든\s?)?(?:지시|명령|규칙|지침|프롬프트|설정|대화|내용).{0,12}"
        r"(?:무시|잊|따르지|버려|취소|초기화)",
        r"(?:지시|명령|규칙|지침)\s?(?:사항)?(?:을|를|은|는|들?을)?\s?(?:모두|전부|다)?\s?(?:무시|잊어)",
    ),
    _sign(
        "asks for the hidden prompt", 0.7,
        r"\b(?:reveal|show|print|repeat|output|display|leak|tell me|what (?:is|are|were) your|give me)\b.{0,40}"
        r"\b(?:system|hidden|initial|original|secret|developer)\b.{0,15}\b(?:prompt|instructions?|message)\b",
        r"\brepeat\b.{0,30}\b(?:everything|all|the words?|text)\b.{0,20}\babove\b",
        r"시스템\s?(?:프롬프트|메시지|지시|지침).{0,20}(?:보여|출력|알려|공개|말해|반복|복사)",
        r"(?:숨겨진|숨긴|비밀|초기|원래)\s?(?:프롬프트|지시|지침|설정).{0,20}(?:보여|출력|알려|공개|말해)",
    ),
    _sign(
        "takes another role without limits", 0.7,
        r"\b(?:you are now|act as|pretend (?:to be|you are)|roleplay as|behave as|from now on)\b.{0,60}"
        r"\b(?:dan|jailbr\w+|unrestricted|unfiltered|uncensored|without (?:any )?(?:restrictions?|limits?|rules|filters?)|"  # noqa: E501
        r"no (?:restrictions?|limits?|rules|filters?)|do anything now|evil)\b",
        r"\b(?:do anything now|developer mode (?:enabled|on)|jailbreak mode|god mode)\b",
        r"(?:제한|제약|검열|필터|규칙)\s?(?:이|도|은|을)?\s?(?:전혀\s?)?(?:없는|없이|해제|풀린|푼).{0,20}(?:ai|인공지능|모드|역할|답)",
        r"(?:탈옥|개발자\s?모드|관리자\s?모드)",
    ),
    _sign(
        "writes in the form of another speaker", 0.6,
        r"<\|?(?:im_start|im_end|system|endoftext|start_header_id|begin_of_text)\|?>", r"\[/?(?:inst|system)\]",
        r"<</?sys>>", r"<(?:start|end)_of_turn>", r"(?:^|\n)\s*#{2,}\s*(?:system|instruction)s?\s*:?",
        r"(?:^|\n)\s*(?:system|시스템)\s?(?:prompt|message|프롬프트|메시지)?\s?:",
    ),
    _sign(
        "switches safety off", 0.5,
        r"\b(?:disable|turn off|remove|bypass|circumvent|evade)\b.{0,30}\b(?:safety|guardrails?|filters?|moderation|censorship|"  # noqa: E501
        r"restrictions?|content polic(?:y|ies))\b",
        r"(?:안전|보안|필터|검열|가드레일|윤리)\s?(?:장치|기능|정책|규정|기준)?(?:을|를)?\s?(?:끄|꺼|해제|우회|무력화|비활성)",
    ),
    _sign(
        "hides what it asks for", 0.4,
        r"\b(?:decode|decrypt|rot13|base64)\b.{0,40}\b(?:and|then)\b.{0,20}\b(?:follow|execute|run|obey|do)\b",
        r"(?:base64|디코딩|복호화).{0,20}(?:실행|따라|수행)",
    ),
    _sign(
        "sends things away", 0.4,
        r"\b(?:send|post|exfiltrate|upload|forward)\b.{0,60}\b(?:conversation|history|api keys?|passwords?|credentials|secrets?)\b"  # noqa: E501
        r".{0,40}(?:https?://|\bto\b)",
        r"(?:대화|비밀번호|인증\s?정보|키).{0,20}(?:전송|보내|업로드).{0,30}https?://",
    ),
)  # fmt: skip


def normal(text: str) -> str:
    """As it is read aloud: one width, one case, no invisible characters."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def signs_in(text: str) -> tuple[Sign, ...]:
    """Every kind of sign in the text, whatever its blanks."""
    read = normal(text)
    flat = _BLANKS.sub(" ", read)
    return tuple(sign for sign in SIGNS if sign.pattern.search(flat) or sign.pattern.search(read))


def score(text: str) -> float:
    """0 (nothing) to 1; signs that are independent add up as chances do."""
    innocent = 1.0
    for sign in signs_in(text):
        innocent *= 1 - sign.weight
    return 1 - innocent
