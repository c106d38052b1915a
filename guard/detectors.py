"""What each kind of rule looks with. A detector takes a role and a text and gives the places it found.

Presidio and spaCy are imported only where a rule of personal data is declared, and in this service only.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from guard import injection
from guard.errors import GuardError
from guard.rules import Rule
from guard.spans import Span, without_overlaps

Detector = Callable[[str, str], Sequence[Span]]


def detector(rule: Rule) -> Detector:
    """Ready to look; raises GuardError with one line when the rule cannot be used."""
    match rule.kind:
        case "personal_data":
            from guard.presidio import personal_data  # noqa: PLC0415 - heavy, and only this kind needs it

            return personal_data(rule)
        case "words":
            return _words(rule)
        case "injection":
            return _injection(rule)
        case "custom":
            return _custom(rule)
    raise GuardError(f"guardrail {rule.name}: there is no kind {rule.kind}")


def _words(rule: Rule) -> Detector:
    """Words in any case, as whole words where they are of letters; patterns as they stand."""
    try:
        patterns = [re.compile(pattern) for pattern in rule.patterns]
    except re.error as error:
        raise GuardError(f"guardrail {rule.name}: a pattern is no regular expression: {error}") from error
    if rule.words:
        patterns.append(re.compile("|".join(map(_whole, sorted(rule.words, key=len, reverse=True))), re.IGNORECASE))

    def find(_: str, text: str) -> Sequence[Span]:
        return without_overlaps(
            Span(start=found.start(), end=found.end(), label=rule.name)
            for pattern in patterns
            for found in pattern.finditer(text)
        )

    return find


def _whole(word: str) -> str:
    """Latin words end where letters end; Korean ones take particles behind them."""
    before = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", word) else ""
    behind = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]\Z", word) else ""
    return before + re.escape(word) + behind


def _injection(rule: Rule) -> Detector:
    """The signs, or the operator's own text classifier."""
    classify = _classifier(rule) if rule.pipeline else None

    def find(role: str, text: str) -> Sequence[Span]:
        if role not in injection.ROLES or not text.strip():
            return ()
        sure = classify(text) if classify is not None else injection.score(text)
        return (Span(start=0, end=len(text), label=rule.name, score=sure),) if sure >= rule.threshold else ()

    return find


def _classifier(rule: Rule) -> Callable[[str], float]:
    """A spaCy pipeline with a text classifier, from a directory of the operator's; its label is INJECTION."""
    pipeline = load_pipeline(rule.name, str(rule.pipeline))
    labels = pipeline.pipe_labels.get("textcat", pipeline.pipe_labels.get("textcat_multilabel", []))
    if "INJECTION" not in labels:
        raise GuardError(f"guardrail {rule.name}: {rule.pipeline} has no text classifier with a label INJECTION")
    return lambda text: float(pipeline(text).cats["INJECTION"])


def load_pipeline(rule: str, directory: str) -> Any:
    """A spaCy pipeline of the operator's, never a package's."""
    import spacy  # noqa: PLC0415 - heavy, and only rules with a model need it

    if not (Path(directory) / "config.cfg").is_file():
        raise GuardError(f"guardrail {rule}: {directory} is no spaCy pipeline (it has no config.cfg)")
    try:
        return spacy.load(Path(directory))
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise GuardError(f"guardrail {rule}: {directory} cannot be loaded: {first}") from error


def _custom(rule: Rule) -> Detector:
    """The operator's own Python file: `find(text, role)` yields (start, end, label)."""
    path = Path(str(rule.file))
    spec = importlib.util.spec_from_file_location(f"guard_custom_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise GuardError(f"guardrail {rule.name}: there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise GuardError(f"guardrail {rule.name}: {path}: {type(error).__name__}: {error}") from error
    own: Callable[[str, str], Iterable[tuple[int, int, str]]] | None = getattr(module, "find", None)
    if own is None:
        raise GuardError(f"guardrail {rule.name}: {path} has no function find(text, role)")

    def find(role: str, text: str) -> Sequence[Span]:
        return without_overlaps(Span(start=start, end=end, label=label) for start, end, label in own(text, role))

    return find
