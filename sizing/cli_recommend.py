"""The verb that answers "what should I run?": recommend, for one device and a wish, or for a whole site."""

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sizing.cli_console import answer, human_console, say
from sizing.cli_inputs import choose_devices, quantity
from sizing.model_facts import load_model_facts
from sizing.plan import Plan
from sizing.recommend import Recommendation, RecommendedSite, recommend, recommend_site
from sizing.recommend_page import ranked_page, site_page
from sizing.site import plan_path
from sizing.wish import Wish

RECOMMEND_EXAMPLES = """\b
Examples:
  llm-size recommend --model Qwen/Qwen3-32B --gpu "NVIDIA H100 80GB HBM3:2" --context 32k --users 16
  llm-size recommend --site inventories/lab
  llm-size recommend --site inventories/lab --write
"""

DEFAULT_USERS_COUNT = 8


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("recommend", epilog=RECOMMEND_EXAMPLES, short_help="What should I run?")(recommend_command)


def recommend_command(
    *,
    site: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="An inventory directory: plan the whole site.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="With --site: write the plan that is shown.")] = False,
    model: Annotated[list[str] | None, typer.Option(metavar="ID", help="Repeatable.")] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME[:COUNT]", help="A GPU of the catalogue. Default: NVML of this host.")
    ] = None,
    hardware: Annotated[Path | None, typer.Option(metavar="FILE", help="What `llm-size probe` measured.")] = None,
    context: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Window: prompt and answer. Default: the longest that fits.")
    ] = None,
    users: Annotated[int, typer.Option(metavar="N", min=1, help="Requests in flight.")] = DEFAULT_USERS_COUNT,
    prompt_tokens: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="With --output-tokens: the window.")
    ] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="TOKENS")] = None,
    objective: Annotated[Literal["throughput", "latency", "context"], typer.Option()] = "throughput",
    quality: Annotated[
        Literal["strict", "balanced"], typer.Option(help="balanced also tries an FP8 KV cache.")
    ] = "strict",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one page with memory bars.")] = None,
) -> int:
    """What should I run?

    With --site the plan of a whole site: what would change is shown as a diff, and written only with --write.
    Without it, ranked candidates for each model alone on the devices.
    """
    if site is not None:
        if model or gpu or hardware or context or prompt_tokens or output_tokens:
            raise typer.BadParameter("--site reads models, hardware and wishes from the site; give no other option")
        return _recommend_site(site, write=write, as_json=as_json, html=html)
    if write:
        raise typer.BadParameter("--write needs --site")
    if not model:
        raise typer.BadParameter("give --model (repeatable) or --site")
    facts = [load_model_facts(one) for one in model]
    devices = choose_devices(gpu=gpu, hardware=hardware, co_tenants_stay=False)
    wish = Wish(
        context_tokens=_window(context, prompt_tokens, output_tokens),
        users_count=users,
        objective=objective,
        quality=quality,
    )
    answers = recommend(facts, devices.device, device_count=devices.count, wish=wish)
    if html is not None:
        _write_page(html, ranked_page(answers, device=f"{devices.count} x {devices.device.name}"))
    if as_json:
        answer(json.dumps([dataclasses.asdict(one) for one in answers], indent=2, ensure_ascii=False))
    else:
        _print_ranked(human_console(), answers)
    return 0


def _window(context: str | None, prompt_tokens: str | None, output_tokens: str | None) -> int | None:
    if (prompt_tokens is None) != (output_tokens is None):
        raise typer.BadParameter("--prompt-tokens and --output-tokens belong together")
    if prompt_tokens is None or output_tokens is None:
        return None if context is None else quantity(context)
    window_tokens = quantity(prompt_tokens) + quantity(output_tokens)
    if context is not None and quantity(context) < window_tokens:
        raise typer.BadParameter(f"--context {context} is shorter than prompt and answer together, {window_tokens}")
    return window_tokens if context is None else quantity(context)


def _print_ranked(console: Console, answers: tuple[Recommendation, ...]) -> None:
    for one in answers:
        if one.rejection:
            shards = one.vllm_options["tensor-parallel-size"]
            console.print(Text(f"   not tensor-parallel-size {shards}: {one.rejection}", style="dim"), soft_wrap=True)
            continue
        console.print(Text.assemble((f"{one.rank}. {one.model}", "bold"), f": {one.reason}"), soft_wrap=True)
        console.print(Text(f"   {one.vllm_serve_line}", style="green"), soft_wrap=True)


def _recommend_site(site: Path, *, write: bool, as_json: bool, html: Path | None) -> int:
    recommended = recommend_site(site)
    if html is not None:
        _write_page(html, site_page(recommended))
    path, text = plan_path(site), recommended.plan.to_group_vars()
    present = _present_text(path)
    difference = "".join(
        difflib.unified_diff(
            present.splitlines(keepends=True),
            text.splitlines(keepends=True),
            fromfile=f"{path} (now)" if present else "/dev/null",
            tofile=f"{path} (recommended)",
        )
    )
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


def _write_page(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")
    say(f"page: {path}")


def _print_site(console: Console, recommended: RecommendedSite, difference: str) -> None:
    console.print(_engines_table(recommended.plan))
    for reason in recommended.reasons:
        console.print(f"  {reason}", markup=False, soft_wrap=True)
    for rejection in recommended.rejections:
        console.print(Text(f"  not: {rejection}", style="dim"), soft_wrap=True)
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in difference.splitlines():
        console.print(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)


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
