"""The command `accept` of `python -m benchmarks`: parse, call, print, exit. `llm-size accept` calls it.

Locust and the charts take seconds to import; checking a bundle and refusing bad input need neither.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.accept.check_bundle import allowed_signers as signers_of
from benchmarks.accept.check_bundle import check_bundle
from benchmarks.accept.hosts import ask_inventory
from benchmarks.acceptance import LATE_ADVICE, Acceptance
from benchmarks.errors import BadLoad, FailedRun, InvalidRun
from benchmarks.null_process import ROOT
from benchmarks.signing import KEY_VARIABLE, SIGNATURE
from sizing.acceptance_criteria import SuiteName

INSIDE_VARIABLE = "LLM_APPLIANCE_IN_SITE_NETWORK"


def accept_command(
    *,
    site: Annotated[Path | None, typer.Argument(metavar="SITE", help="an inventory directory")] = None,
    check: Annotated[Path | None, typer.Option(metavar="BUNDLE", help="only check a signed bundle")] = None,
    suite: Annotated[list[str] | None, typer.Option(metavar="NAME", help="only this suite; may be repeated")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="shorter than agreed; accepts nothing")] = False,
    disturb: Annotated[bool, typer.Option("--disturb", help="also break the site: faults and fallbacks")] = False,
    gateway: Annotated[str | None, typer.Option(metavar="URL", help="ends in /v1; default: the plan's")] = None,
    engine: Annotated[str | None, typer.Option(metavar="URL", help="ends in /v1; default: the plan's")] = None,
    processes: Annotated[int, typer.Option(min=1, help="load processes")] = 1,
    output: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="default: acceptance/<site>-<time>")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="SSH key to sign with")] = None,
    calibration: Annotated[Path | None, typer.Option(metavar="FILE", help="of `llm-size calibrate`")] = None,
    allowed_signers: Annotated[Path | None, typer.Option(metavar="FILE", help="who may sign")] = None,
) -> None:
    """Accept a living site, or check a bundle. Exit 0 accepted, 1 not, 2 bad input, 7 invalid run."""
    if check is not None:
        print(check_bundle(check, signers_of(allowed_signers)))
        return
    if site is None:
        raise BadLoad("name the SITE to accept, or a bundle: --check BUNDLE")
    suites, gateway_url, engine_url = tuple(_suite(name) for name in suite or ()), _url(gateway), _url(engine)
    if not site.is_dir():
        raise BadLoad(f"{site}: no such site")
    inventory = ask_inventory(site)
    if inventory.network and not os.environ.get(INSIDE_VARIABLE):
        _begin_again_inside(inventory.network)
    console = Console(stderr=True, highlight=False)
    from benchmarks.accept.run import AcceptanceRun, Wanted  # noqa: PLC0415  see the top

    wanted = Wanted(
        site=site,
        suites=suites,
        quick=quick,
        disturb=disturb,
        gateway_url=gateway_url,
        engine_url=engine_url,
        processes=processes,
        output=output,
        key=key,
        calibration=calibration,
    )
    run = AcceptanceRun(
        wanted=wanted,
        inventory=inventory,
        tell=lambda line: console.print(f"accept: {line}", markup=False, soft_wrap=True),
    )
    directory, acceptance = run.carry_out()
    signed = (directory / SIGNATURE).is_file()
    _say(acceptance, directory / "report.html", signed=signed, console=console)
    if acceptance.invalid:
        raise typer.Exit(InvalidRun.exit_code)
    raise typer.Exit(0 if acceptance.accepted and signed else FailedRun.exit_code)


def _say(acceptance: Acceptance, page: Path, *, signed: bool, console: Console) -> None:
    """The answer: every item, what stands against it, the verdict."""
    for item in acceptance.checklist:
        print(f"{item.status:>13}  {item.title}: {item.evidence}")
    for objection in acceptance.objections:
        print(f"{'NOT JUDGED' if objection in acceptance.inconclusive else 'AGAINST IT'}: {objection}")
    if acceptance.invalid:
        print(LATE_ADVICE)
    print(f"{acceptance.site}: {acceptance.outcome}; {page}")
    if not signed:
        console.print(
            f"accept: not signed, so nothing is accepted: name a key with --key FILE or {KEY_VARIABLE}",
            markup=False,
            soft_wrap=True,
        )


def _suite(name: str) -> SuiteName:
    known: dict[str, SuiteName] = {one: one for one in SuiteName.__args__}  # type: ignore[attr-defined]
    if name.replace("-", "_") not in known:
        raise BadLoad(f"there is no suite {name}; there are {', '.join(known)}")
    return known[name.replace("-", "_")]


def _url(given: str | None) -> str | None:
    if given is not None and not given.startswith(("http://", "https://")):
        raise BadLoad(f"{given}: an address begins with http:// or https:// and ends in /v1")
    return given.rstrip("/") if given else None


def _begin_again_inside(network: tuple[str, ...]) -> None:
    """The same command again, inside the site's network; it ends as that one ends."""
    command = [*network, sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    program = ROOT / network[0] if "/" in network[0] else Path(network[0])
    os.execvpe(str(program), command, {**os.environ, INSIDE_VARIABLE: "1", "PYTHONPATH": str(ROOT)})  # noqa: S606
