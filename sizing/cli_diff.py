"""`llm-size estimate --diff-versions A,B`: what an upgrade of vLLM changes for one configuration, printed."""

from sizing.cli_console import answer, human_console
from sizing.errors import EngineRefuses
from sizing.estimate import EngineConfiguration
from sizing.units import gib_text
from sizing.version_differences import Value, VersionDifferences, parsed_versions, version_differences


def print_differences(configuration: EngineConfiguration, versions: str, *, title: str, as_json: bool) -> int:
    """Prints what changes; the exit code is that of the newer version's verdict."""
    before, after = parsed_versions(versions)
    result = version_differences(configuration, before=before, after=after)
    if as_json:
        answer(result.model_dump_json(indent=2))
    else:
        _print_table(result, title)
    return 0 if result.after.verdict == "fits" else EngineRefuses.exit_code


def _print_table(result: VersionDifferences, title: str) -> None:
    from rich.table import Table  # noqa: PLC0415 - heavy, and JSON does without

    console = human_console()
    if not result.differences:
        console.print(f"{title}: vLLM {result.before_version} and {result.after_version} answer alike.")
        return
    rows = Table(title=title, title_justify="left")
    rows.add_column("what")
    rows.add_column(f"vLLM {result.before_version}", justify="right")
    rows.add_column(f"vLLM {result.after_version}", justify="right")
    for one in result.differences:
        rows.add_row(one.what.replace("_", " "), _text(one.what, one.before), _text(one.what, one.after))
    console.print(rows)


def _text(what: str, value: Value) -> str:
    if what.endswith("_bytes") and isinstance(value, int):
        return gib_text(value)
    return f"{value:,}" if isinstance(value, int | float) else value or "none"
