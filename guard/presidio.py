"""Personal data through Presidio: our recognizers, those of its own that are named, and names by operators' pipelines.

Language models for spaCy are in no package index (what is called *-core-* there is something else), so pipelines are
blank: they split texts into words and nothing more. Presidio is asked once per text in one language, since patterns
know no language; a pipeline of the operator's adds its own. What stands in the place of something found is Presidio's
anonymizer's word, a span at a time, since a stream needs to know where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import spacy
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, PatternRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer import predefined_recognizers as known
from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine
from presidio_anonymizer import AnonymizerEngine
from presidio_anonymizer.entities import OperatorConfig
from presidio_anonymizer.entities import RecognizerResult as FoundEntity

from guard.detectors import Detector, load_pipeline
from guard.errors import GuardError
from guard.personal import FINDERS, plain
from guard.rules import Rule
from guard.spans import Span, without_overlaps

NO_LANGUAGE = "xx"
# Presidio's scores: what a pattern alone says, without a word beside it, is often 0.05 to 0.3.
THRESHOLD = 0.4
NAME_SCORE = 0.55
LAST_SHOWN = 4


class ByPatternAndChecksum(EntityRecognizer):  # type: ignore[misc]
    """The finders of personal.py."""

    def __init__(self, entities: Sequence[str], language: str) -> None:
        super().__init__(supported_entities=list(entities), supported_language=language, name="by pattern and checksum")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:  # noqa: ARG002
        """Presidio's form of what they find."""
        read = plain(text)
        spans = [span for name in self.supported_entities for span in FINDERS[name](read)]
        return [_result(span.label, span.start, span.end, span.score) for span in spans]


class ByPipeline(EntityRecognizer):  # type: ignore[misc]
    """What the operator's pipeline calls an entity."""

    def __init__(self, labels: Sequence[str], language: str) -> None:
        super().__init__(supported_entities=list(labels), supported_language=language, name="by pipeline")

    def load(self) -> None:
        """The pipeline is loaded already."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:  # noqa: ARG002
        """The entities of the document that Presidio's engine made."""
        found = [one for one in nlp_artifacts.tokens.ents if one.label_ in self.supported_entities]
        return [_result(one.label_, one.start_char, one.end_char, NAME_SCORE) for one in found]


class Pipelines(SpacyNlpEngine):  # type: ignore[misc]
    """Pipelines that are loaded already. Blank ones know no lemmas: context is compared with the words themselves."""

    def __init__(self, pipelines: Mapping[str, Any]) -> None:
        super().__init__()
        self.nlp = dict(pipelines)

    def _doc_to_nlp_artifact(self, doc: Any, language: str) -> NlpArtifacts:
        return NlpArtifacts(
            entities=list(doc.ents),
            tokens=doc,
            tokens_indices=[token.idx for token in doc],
            lemmas=[token.lemma_ or token.lower_ for token in doc],
            nlp_engine=self,
            language=language,
        )


def personal_data(rule: Rule) -> Detector:
    """Looks with everything that the rule names."""
    pipelines = {language: load_pipeline(rule.name, path) for language, path in rule.pipelines.items()}
    languages = list(pipelines) or [NO_LANGUAGE]
    first = languages[0]
    recognizers: list[EntityRecognizer] = [ByPatternAndChecksum(rule.entities, first)] if rule.entities else []
    recognizers += [_known(rule, entity, first) for entity in rule.presidio]
    for language, pipeline in pipelines.items():
        recognizers.append(ByPipeline(_labels(rule, pipeline, language), language))
    engine = Pipelines(pipelines or {NO_LANGUAGE: spacy.blank(NO_LANGUAGE)})
    analyzer = AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognizers, supported_languages=languages),
        nlp_engine=engine,
        supported_languages=languages,
        default_score_threshold=THRESHOLD,
    )
    # Our own finders look at characters; without anything else there is no reason to split a text into words.
    unsplit = None if rule.presidio or pipelines else engine.process_text("", first)
    instead = _replacements(rule.style)

    def find(_: str, text: str) -> Sequence[Span]:
        found = [
            Span(start=one.start, end=one.end, label=one.entity_type, score=one.score)
            for language in languages
            for one in analyzer.analyze(text=text, language=language, nlp_artifacts=unsplit)
        ]
        return [
            Span(start=one.start, end=one.end, label=one.label, instead=instead(one.label, text[one.start : one.end]))
            for one in without_overlaps(found)
        ]

    return find


def _known(rule: Rule, entity: str, language: str) -> EntityRecognizer:
    """The recognizer that Presidio has for an entity, where it needs patterns only."""
    for name in dir(known):
        kind = getattr(known, name)
        if not (isinstance(kind, type) and issubclass(kind, PatternRecognizer)) or kind is PatternRecognizer:
            continue
        try:
            one = kind(supported_language=language)
        except TypeError:  # it needs something that is not here
            continue
        if entity in one.supported_entities:
            return one
    raise GuardError(f"guardrail {rule.name}: Presidio has no pattern for {entity}")


def _labels(rule: Rule, pipeline: Any, language: str) -> tuple[str, ...]:
    knows = {label for labels in pipeline.pipe_labels.values() for label in labels}
    if rule.labels and (missing := sorted(set(rule.labels) - knows)):
        raise GuardError(f"guardrail {rule.name}: {rule.pipelines[language]} does not know {missing[0]}")
    return rule.labels or tuple(sorted(knows))


def _replacements(style: str) -> Callable[[str, str], str]:
    anonymizer = AnonymizerEngine()

    def instead(label: str, text: str) -> str:
        shown = LAST_SHOWN if style == "last4" and len(text) > 2 * LAST_SHOWN else 0
        stars = {"masking_char": "*", "chars_to_mask": len(text) - shown, "from_end": False}
        operator = (
            OperatorConfig("replace", {"new_value": f"<{label}>"})
            if style == "label"
            else OperatorConfig("mask", stars)
        )
        whole = [FoundEntity(entity_type=label, start=0, end=len(text), score=1.0)]
        return str(anonymizer.anonymize(text=text, analyzer_results=whole, operators={label: operator}).text)

    return instead


def _result(label: str, start: int, end: int, score: float) -> RecognizerResult:
    return RecognizerResult(entity_type=label, start=start, end=end, score=score)
