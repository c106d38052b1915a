"""The verb that answers "what should I run?": recommend, for the devices of one host, or for a whole site."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from sizing.cli_calibrate import CALIBRATION_HELP, with_calibration
from sizing.cli_demand import DEFAULT_SPREAD, DEFAULT_USERS_COUNT, Said, wish_of
from sizing.cli_inputs import choose_pools
from sizing.demand import DEFAULT_PERCENTILE
from sizing.gateway_load import GATEWAY_CORES, Streaming

RECOMMEND_EXAMPLES = """\b
Examples:
  llm-size recommend --model Qwen/Qwen3-32B --gpu "NVIDIA H100 80GB HBM3:2" --context 32k --users 16
  llm-size recommend --model Qwen/Qwen3-32B --model google/gemma-3-12b-it --hardware hardware.json --context 16K
  llm-size recommend --model Qwen/Qwen3-32B --gpu H100-SXM:8 --people 120 --think-seconds 30 \\
      --prompt-tokens 3000 --output-tokens 300 --ttft-ms 1000 --tpot-ms 33
  llm-size recommend --buy --prices prices.yml --model Qwen/Qwen3-32B --rate 3 --prompt-tokens 3000 \\
      --output-tokens 300 --ttft-ms 1000 --tpot-ms 33
  llm-size recommend --site inventories/lab
  llm-size recommend --site inventories/lab --write
"""


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
        int | None,
        typer.Option(metavar="N", min=1, help=f"Requests in flight, of each model. Default: {DEFAULT_USERS_COUNT}."),
    ] = None,
    people: Annotated[
        int | None, typer.Option(metavar="N", help="People who ask, read and think, with --think-seconds.")
    ] = None,
    think_seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Between an answer and the next question of a person, on average.")
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Requests per second, of each model.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recorded requests (seconds, prompt_tokens, output_tokens) as the load."),
    ] = None,
    prompt_tokens: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Of a usual request, with --output-tokens; also the window.")
    ] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="TOKENS")] = None,
    ttft_ms: Annotated[
        float | None, typer.Option(metavar="MS", min=0, help="Slowest tolerable time to the first token.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(metavar="MS", min=0, help="Slowest tolerable time per further token.")
    ] = None,
    percentile: Annotated[
        int, typer.Option(metavar="P", help="Of the requests that must meet the times: 50, 90, 95 or 99.")
    ] = DEFAULT_PERCENTILE,
    certainty: Annotated[
        Literal["safe", "likely"], typer.Option(help="safe: met even at the slow end of the interval of step times.")
    ] = "safe",
    spread: Annotated[
        float, typer.Option(metavar="RATIO", help="Standard deviation of the lengths as a share of their means.")
    ] = DEFAULT_SPREAD,
    prefix_hits: Annotated[
        float, typer.Option(metavar="RATIO", help="Share of each prompt that the prefix cache has.")
    ] = 0.0,
    stream_interval: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens a streamed piece. Default: weighed against the feel.")
    ] = None,
    gateway_cores: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cores of a gateway host, for the number of hosts.")
    ] = GATEWAY_CORES,
    buy: Annotated[
        bool, typer.Option("--buy", help="The cheapest hardware of the catalogue for the wish, instead of a plan.")
    ] = False,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prices and power for --buy (docs/capacity.md).")
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
        if any(
            (
                *(model, gpu, hardware, context, users, people, rate, trace, prompt_tokens, output_tokens),
                *(ttft_ms, tpot_ms, buy),
            )
        ):
            raise typer.BadParameter("--site reads models, hardware and wishes from the site; give no other option")
        from sizing.cli_recommend_site import answer_for_site  # noqa: PLC0415 - a plan needs far more than an answer

        return answer_for_site(site, write=write, as_json=as_json, html=html)
    if write:
        raise typer.BadParameter("--write needs --site")
    if not model:
        raise typer.BadParameter("give --model (repeatable) or --site")
    said = Said(
        context=context,
        users=users,
        people=people,
        think_seconds=think_seconds,
        rate=rate,
        trace=trace,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        percentile=percentile,
        certainty=certainty,
        spread=spread,
        prefix_hits=prefix_hits,
    )
    wish = wish_of(said, objective=objective, quality=quality)
    streaming = Streaming(interval_tokens=stream_interval, host_cores=gateway_cores)
    models = tuple(dict.fromkeys(model))
    if buy:
        if gpu or hardware or calibration:
            raise typer.BadParameter("--buy looks at the whole catalogue; give no --gpu, --hardware or --calibration")
        from sizing.cli_buy import answer_what_to_buy  # noqa: PLC0415

        return answer_what_to_buy(models, wish, prices=prices, streaming=streaming, as_json=as_json, html=html)
    if prices is not None:
        raise typer.BadParameter("--prices belongs to --buy")
    from sizing.cli_ranked import answer_for_host  # noqa: PLC0415

    pools = tuple(
        replace(pool, device=with_calibration(pool.device, calibration))
        for pool in choose_pools(gpu=gpu, hardware=hardware, co_tenants_stay=co_tenants == "stay")
    )
    return answer_for_host(models, pools, wish, streaming=streaming, as_json=as_json, html=html)
