"""Model facts: finds what is known about a model by its catalogue id, its directory or its config.json.

A source is a catalogue id (`Qwen/Qwen3-32B`), a directory that holds a config.json, or such a file.
"""

import difflib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from sizing.catalogue import catalogue_document, catalogue_text
from sizing.documents import Part, read_structured_file
from sizing.errors import UnknownFact
from sizing.model_reading import model_facts_of, supported_architectures
from sizing.model_shape import AttentionLayer, ModelFacts, VisionTower, WeightQuantization
from sizing.safetensors_header import read_checkpoint

__all__ = [
    "AttentionLayer",
    "ModelFacts",
    "VisionTower",
    "WeightQuantization",
    "known_models",
    "load_model_facts",
    "model_facts_of",
    "supported_architectures",
]


class _CatalogueModel(Part):
    id: str
    file: str
    confidence: Literal["verified", "copy", "inferred"]
    source: str
    revision: str | None = None
    config_sha256: str | None = None
    note: str = ""


class _ModelTable(Part):
    models: tuple[_CatalogueModel, ...]


@cache
def _models() -> dict[str, _CatalogueModel]:
    return {row.id: row for row in _ModelTable.model_validate(catalogue_document("models.yaml")).models}


def known_models() -> tuple[str, ...]:
    """The ids of the catalogue."""
    return tuple(_models())


def load_model_facts(source: str, *, model_store: Path | None = None) -> ModelFacts:
    """The facts of a catalogue id, of a directory with a config.json, or of such a file.

    A relative directory is looked for below `model_store` first. Raises UnknownFact for what nobody knows.
    """
    row = _models().get(source)
    if row is not None:
        content: object = json.loads(catalogue_text(f"models/{row.file}"))
        return model_facts_of(content, name=row.id, source=f"catalogue: {row.source}", confidence=row.confidence)
    for path in ([model_store / source] if model_store else []) + [Path(source)]:
        if path.is_dir():
            facts = model_facts_of(
                read_structured_file(path / "config.json"), name=path.resolve().name, source=str(path)
            )
            return _with_checkpoint(facts, path)
        if path.is_file():
            name = path.resolve().parent.name if path.name == "config.json" else path.stem
            return model_facts_of(read_structured_file(path), name=name, source=str(path))
    by_lower_case = {name.lower(): name for name in known_models()}
    near = difflib.get_close_matches(source.lower(), by_lower_case, n=3, cutoff=0.4)
    nearest = f"; nearest: {', '.join(by_lower_case[name] for name in near)}" if near else ""
    raise UnknownFact(
        f'model "{source}" is neither in the catalogue nor a directory{nearest}. For another model pass the directory '
        "with its config.json (--model-dir), or the file (--config)"
    )


def _with_checkpoint(facts: ModelFacts, directory: Path) -> ModelFacts:

    checkpoint = read_checkpoint(directory)
    return facts if checkpoint is None else replace(facts, checkpoint=checkpoint)
