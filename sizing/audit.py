"""Audit: how long a site keeps who did what, and whether it keeps what was asked.

Declared in group_vars/all/audit.yml.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from sizing.documents import Document, read_structured_file
from sizing.errors import DocumentError

AUDIT_KEY = "audit"


class Audit(Document):
    """What of the audit is the operator's to decide. Everything has a default; requests and changes are always kept."""

    retention_days: int = Field(default=400, ge=1, le=36500, description="requests: who, when, what, which result")
    change_retention_days: int = Field(default=1830, ge=1, le=36500, description="changes of keys, teams and budgets")
    record_prompts: bool = Field(default=False, description="keeps what was asked, word for word; answers never")
    prompt_retention_days: int = Field(default=30, ge=1, le=36500, description="prompts, where they are kept")


def load_audit(directory: Path) -> Audit | None:
    """The declared audit of a site; None where nothing is declared."""
    path = directory / "group_vars" / "all" / "audit.yml"
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {AUDIT_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {AUDIT_KEY}")
    return Audit.parse(content[AUDIT_KEY], origin=str(path))
