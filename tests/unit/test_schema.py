"""The JSON Schemas in docs/schema/ say what the models say."""

import json
from pathlib import Path

import pytest

from sizing.schema import documents, stale_schemas, write_schemas

SCHEMA_DIRECTORY = Path(__file__).parents[2] / "docs" / "schema"


def test_the_schemas_in_the_docs_are_not_stale() -> None:
    assert () == stale_schemas(SCHEMA_DIRECTORY), "run `make schema` and review the difference"


def test_writing_touches_only_what_differs_and_removes_what_is_gone(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    (tmp_path / "plan.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "gone.schema.json").write_text("{}", encoding="utf-8")

    touched = write_schemas(tmp_path)

    assert (tmp_path / "gone.schema.json", tmp_path / "plan.schema.json") == touched
    assert () == stale_schemas(tmp_path)


@pytest.mark.parametrize("name", documents())
def test_no_document_accepts_a_key_that_it_does_not_know(name: str) -> None:
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.schema.json").read_text(encoding="utf-8"))

    assert schema["additionalProperties"] is False
