"""Verdicts: how a comparison becomes a check, and how two figures or versions are called the same."""

from sizing.report import Check


def compare(
    check_id: str, subject: str, statement: str, *, expected: str, seen: str, holds: bool, advice: str
) -> Check:
    """One check; the advice is kept only where it is needed."""
    return Check(
        id=check_id,
        subject=subject,
        statement=statement,
        expected=expected,
        seen=seen,
        verdict="pass" if holds else "fail",
        advice="" if holds else advice,
    )


def figure(quantity: int | None, unit: str = "") -> str:
    """A figure for a reader: `43,648 tokens`, or `nothing` where none was observed."""
    if quantity is None:
        return "nothing"
    return f"{quantity:,} {unit}".rstrip()


def status_text(status: int | None, error: str = "") -> str:
    """An HTTP status for a reader, or why there is none."""
    if status is None:
        return f"no answer{f' ({error})' if error else ''}"
    return str(status)


def same_version(seen: str | None, planned: str) -> bool:
    """Whether a running release is the planned one; a build tag behind `+` (0.32.0+cpu) does not count."""
    return seen is not None and seen.partition("+")[0] == planned.partition("+")[0]
