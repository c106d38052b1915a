"""Accuracy: how far off sizing was seen to be, shipped with the package so that every page can say it.

`catalogue/accuracy.yaml` is the summary of docs/accuracy.md, written by the tool that makes that page.
"""

from sizing.catalogue import catalogue_document
from sizing.documents import Part


class ErrorRow(Part):
    """One quantity, and how far sizing was from what vLLM said, in words with figures."""

    quantity: str
    error: str


class _ErrorTable(Part):
    vllm_version: str
    rows: tuple[ErrorRow, ...]


def error_rows(vllm_version: str) -> tuple[ErrorRow, ...]:
    """The errors of one version; empty where nobody compared."""
    try:
        table = _ErrorTable.model_validate(catalogue_document("accuracy.yaml"))
    except FileNotFoundError:
        return ()
    return table.rows if table.vllm_version == vllm_version else ()
