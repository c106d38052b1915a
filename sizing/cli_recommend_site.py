"""How the answer of `recommend --site` is printed and written: the plan, the reasons, and the diff that it makes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sizing.cli_console import answer, human_console, say
from sizing.plan import Plan
from sizing.plan_diff import plan_diff
from sizing.recommend_site import RecommendedSite, recommend_site
from sizing.site import plan_path

HOSTS_NAMED = 3


def answer_for_site(site: Path, *, write: bool, as_json: bool, html: Path | None) -> int:
    """Shows what the plan would change, and writes it only where that was asked for."""
    recommended = recommend_site(site)
    if html is not None:
        from sizing.recommend_page import site_page, write_page  # noqa: PLC0415 - templates only where a page is made
        from sizing.site_speed import felt_at_site  # noqa: PLC0415 - simulated only for the page

        write_page(html, site_page(recommended, speed=felt_at_site(recommended.placement)))
        say(f"page: {html}")
    path, text = plan_path(site), recommended.plan.to_group_vars()
    difference = plan_diff(_present_text(path), text, path=str(path))
    if as_json:
        answer(
            json.dumps(
                {
                    "plan": recommended.plan.model_dump(mode="json", by_alias=True, exclude_none=True),
                    "reasons": recommended.reasons,
                    "rejections": recommended.rejections,
                    "changed": bool(difference),
                },
                indent=2,
                ensure_ascii=False,
            )
        )
    else:
        _print_site(human_console(), recommended, difference)
    if not difference:
        say(f"unchanged {path}")
    elif write:
        _write(path, text)
        say(f"wrote {path}")
    else:
        say(f"not written; `llm-size recommend --site {site} --write` writes {path}")
    return 0


def _present_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """All of it or nothing: Ansible never reads half a plan."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _print_site(console: Console, recommended: RecommendedSite, difference: str) -> None:
    console.print(_engines_table(recommended.plan))
    for reason in recommended.reasons:
        console.print(f"  {reason}", markup=False, soft_wrap=True)
    for rejection in _once_for_all_hosts(recommended.rejections):
        console.print(Text(f"  not: {rejection}", style="dim"), soft_wrap=True)
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in difference.splitlines():
        console.print(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)


def _once_for_all_hosts(rejections: Sequence[str]) -> Iterator[str]:
    """Each reason once, with the hosts that it holds for: equal hosts say the same."""
    hosts_of: dict[str, list[str]] = {}
    for rejection in rejections:
        host, _, reason = rejection.partition(": ")
        hosts_of.setdefault(reason, []).append(host)
    for reason, hosts in hosts_of.items():
        more = len(hosts) - HOSTS_NAMED
        yield f"{', '.join(hosts[:HOSTS_NAMED])}{f' and {more} more' if more > 0 else ''}: {reason}"


def _engines_table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("host", "engine", "devices"):
        table.add_column(heading)
    for heading in ("window", "KV tokens", "full windows", "max-num-seqs"):
        table.add_column(heading, justify="right")
    for host, engine in plan.engines():
        devices = (
            f"{len(engine.gpu_uuids)} GPU" if engine.gpu_uuids else f"cores {','.join(map(str, engine.cpu_cores))}"
        )
        table.add_row(
            host,
            engine.name,
            devices,
            f"{engine.vllm_options.max_model_len:,}",
            f"{engine.kv_cache.tokens:,}",
            f"{engine.kv_cache.max_concurrency_ratio:.2f}",
            str(engine.vllm_options.max_num_seqs),
        )
    return table
