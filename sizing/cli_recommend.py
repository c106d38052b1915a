"""The verb that answers "what should I run?": recommend, for the devices of one host, or for a whole site."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from sizing.cli_calibrate import CALIBRATION_HELP, with_calibration
from sizing.cli_inputs import choose_pools, quantity
from sizing.wish import Wish

RECOMMEND_EXAMPLES = """\b
Examples:
  llm-size recommend --model Qwen/Qwen3-32B --gpu "NVIDIA H100 80GB HBM3:2" --context 32k --users 16
  llm-size recommend --model Qwen/Qwen3-32B --model google/gemma-3-12b-it --hardware hardware.json --context 16K
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
    model: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Repeatable: several models share the host.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME[:COUNT]", help="A GPU of the catalogue. Default: NVML of this host.")
    ] = None,
    hardware: Annotated[Path | None, typer.Option(metavar="FILE", help="What `llm-size probe` measured.")] = None,
    co_tenants: Annotated[
        Literal["stay", "leave"],
        typer.Option(help="Whether what holds GPU memory now will still be there (measured GPUs only)."),
    ] = "stay",
    context: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Window: prompt and answer. Default: the longest that fits.")
    ] = None,
    users: Annotated[
        int, typer.Option(metavar="N", min=1, help="Requests in flight, of each model.")
    ] = DEFAULT_USERS_COUNT,
    prompt_tokens: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Of a usual request, with --output-tokens; also the window.")
    ] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="TOKENS")] = None,
    ttft_ms: Annotated[
        float | None, typer.Option(metavar="MS", min=0, help="Wished time to the first token (not judged yet).")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(metavar="MS", min=0, help="Wished time per further token (not judged yet).")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(metavar="FILE", help=CALIBRATION_HELP)] = None,
    objective: Annotated[
        Literal["throughput", "latency", "context"],
        typer.Option(help="Fewest GPUs per engine, widest split, or largest KV cache."),
    ] = "throughput",
    quality: Annotated[
        Literal["strict", "balanced"],
        typer.Option(help="balanced may take the official FP8 release and an FP8 KV cache, and says so."),
    ] = "strict",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one page with memory bars.")] = None,
) -> int:
    """What should I run?

    With --site the plan of a whole site: what would change is shown as a diff, and written only with --write.
    Without it, ranked candidates for the models together on the devices of one host.
    Exit code 3: the wish cannot be met; the line names the cheapest change that would meet it.
    """
    if site is not None:
        if calibration:
            raise typer.BadParameter("--calibration is for the devices of one host; --site does not read it yet")
        if model or gpu or hardware or context or prompt_tokens or output_tokens or ttft_ms or tpot_ms:
            raise typer.BadParameter("--site reads models, hardware and wishes from the site; give no other option")
        from sizing.cli_recommend_site import answer_for_site  # noqa: PLC0415 - a plan needs far more than an answer

        return answer_for_site(site, write=write, as_json=as_json, html=html)
    if write:
        raise typer.BadParameter("--write needs --site")
    if not model:
        raise typer.BadParameter("give --model (repeatable) or --site")
    from sizing.cli_ranked import answer_for_host  # noqa: PLC0415

    window_tokens, request_tokens = _lengths(context, prompt_tokens, output_tokens)
    wish = Wish(
        context_tokens=window_tokens,
        users_count=users,
        objective=objective,
        quality=quality,
        request_tokens=request_tokens,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
    )
    pools = tuple(
        replace(pool, device=with_calibration(pool.device, calibration))
        for pool in choose_pools(gpu=gpu, hardware=hardware, co_tenants_stay=co_tenants == "stay")
    )
    return answer_for_host(tuple(dict.fromkeys(model)), pools, wish, as_json=as_json, html=html)


def _lengths(
    context: str | None, prompt_tokens: str | None, output_tokens: str | None
) -> tuple[int | None, int | None]:
    """The window, and the length of a usual request; None where nothing was said."""
    if (prompt_tokens is None) != (output_tokens is None):
        raise typer.BadParameter("--prompt-tokens and --output-tokens belong together")
    window_tokens = None if context is None else quantity(context)
    if window_tokens is not None and window_tokens < 1:
        raise typer.BadParameter(f"--context is {window_tokens}; it must be at least 1 token")
    if prompt_tokens is None or output_tokens is None:
        return window_tokens, None
    prompt, output = quantity(prompt_tokens), quantity(output_tokens)
    if prompt < 1 or output < 1:
        raise typer.BadParameter("--prompt-tokens and --output-tokens must each be at least 1 token")
    if window_tokens is not None and window_tokens < prompt + output:
        raise typer.BadParameter(f"--context {context} is shorter than prompt and answer together, {prompt + output}")
    return window_tokens or prompt + output, prompt + output
