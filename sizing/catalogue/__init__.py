"""Catalogue: facts about models, GPUs and vLLM as data files, each row with its source, and the one way to read them.

Rows are validated by the module that owns their meaning; here they are only text. Reading is cached: the files ship
with the package and do not change while it runs.
"""

from functools import cache
from importlib.resources import files

import yaml

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times faster where it is built


@cache
def catalogue_text(name: str) -> str:
    """The text of one catalogue file, by its path below the catalogue."""
    return files("sizing.catalogue").joinpath(name).read_text(encoding="utf-8")


@cache
def catalogue_document(name: str) -> object:
    """The content of one YAML catalogue file."""
    document: object = yaml.load(catalogue_text(name), Loader=_Loader)  # noqa: S506 - both loaders are the safe ones
    return document
