"""Accuracy: the error table of a version of vLLM, shipped with the package so that every page can show it.

`catalogue/accuracy.yaml` is written by the tool that makes docs/accuracy.md; where it is absent there is no table.
"""

from sizing.catalogue import catalogue_document
from sizing.documents import Part


class ErrorRow(Part):
    """One quantity: against what it was compared, how often, and how far off it was (percent)."""

    quantity: str
    compared_with: str
    row_count: int
    median_percent: float
    p90_percent: float
    note: str = ""


class _ErrorTable(Part):
    vllm_version: str
    rows: tuple[ErrorRow, ...]


class _ErrorTables(Part):
    tables: tuple[_ErrorTable, ...]


def error_rows(vllm_version: str) -> tuple[ErrorRow, ...]:
    """The table of one version; empty where nobody compared."""
    try:
        content = catalogue_document("accuracy.yaml")
    except FileNotFoundError:
        return ()
    tables = _ErrorTables.model_validate(content).tables
    return next((table.rows for table in tables if table.vllm_version == vllm_version), ())
