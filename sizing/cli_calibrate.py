"""The verb that learns from the site's own engines: calibrate."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sizing.calibrate import calibrated_starts, calibration_of
from sizing.calibrate_speed import calibrate_speed
from sizing.calibration import CalibratedSpeed, Calibration
from sizing.cli_console import answer, say
from sizing.cli_inputs import choose_devices
from sizing.device import Device
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.engine_settings import EngineConfiguration
from sizing.errors import SizingError
from sizing.model_facts import load_model_facts
from sizing.speed_reports import is_speed_report
from sizing.units import gib_text

CALIBRATE_EXAMPLES = """\b
Examples:
  journalctl -u vllm@qwen-0 -b -o cat > qwen-0.log && llm-size calibrate qwen-0.log --output calibration.json
  llm-size calibrate bench-1.json bench-8.json --model Qwen/Qwen3-32B --gpu H100 --tensor-parallel-size 2
  llm-size estimate --model Qwen/Qwen3-32B --gpu H100 --calibration calibration.json
"""

CALIBRATION_HELP = "What `llm-size calibrate` learned from this site's own starts and load tests."


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("calibrate", epilog=CALIBRATE_EXAMPLES, short_help="Learn from start-up logs and load tests.")(
        calibrate_command
    )


def calibrate_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Start-up logs of vLLM, one start each; reports of load tests, JSON."),
    ],
    *,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="The GPU, where its memory alone does not tell which it is.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="The model, where the logs name a path that is not here.")
    ] = None,
    hardware: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of load tests: the host, as `llm-size probe` prints it.")
    ] = None,
    tensor_parallel_size: Annotated[
        int, typer.Option(metavar="COUNT", min=1, help="Of load tests: GPUs of the engine.")
    ] = 1,
    max_model_len: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Of load tests: as the engine was started.")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Of load tests: as the engine was started.")
    ] = None,
    kv_cache_memory_bytes: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Of load tests: as the engine was started.")
    ] = None,
    vllm_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Of load tests: the engine's.")
    ] = DEFAULT_VLLM_VERSION,
    prompt_tokens: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=1, help="Mean prompt, where a report does not say it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the calibration goes. Default: stdout.")
    ] = None,
) -> None:
    """Learn this site's own overheads from vLLM's start-up logs, and its speed from load tests of one engine.

    A load test is the JSON of `vllm bench serve --save-result`, or of a throughput suite with its acceptance bundle.
    Prints for each file what sizing had predicted and what was seen, and writes a small JSON document.
    """
    reports = [path for path in files if is_speed_report(path)]
    logs = [path for path in files if path not in reports]
    starts = calibrated_starts(logs, gpu=gpu, model=model)
    for start in starts:
        error = start.predicted_kv_cache_bytes / start.kv_cache_bytes - 1 if start.kv_cache_bytes > 0 else 0.0
        say(
            f"{start.log}: {start.model} on {start.tensor_parallel_size} x {start.gpu}, vLLM {start.vllm_version}: "
            f"KV cache {gib_text(start.kv_cache_bytes)}, predicted {gib_text(start.predicted_kv_cache_bytes)} "
            f"({error:+.1%}); overhead {gib_text(start.overhead_bytes)}, predicted "
            f"{gib_text(start.predicted_overhead_bytes)}"
        )
    speeds: tuple[CalibratedSpeed, ...] = ()
    if reports:
        if model is None:
            raise typer.BadParameter("load tests do not say what they ran on: give --model, and --gpu or --hardware")
        configuration = EngineConfiguration(
            model=load_model_facts(model),
            device=choose_devices(gpu=gpu, hardware=hardware, co_tenants_stay=False).device,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            kv_cache_memory_bytes=kv_cache_memory_bytes,
            vllm_version=vllm_version,
        )
        speeds = (calibrate_speed(reports, configuration, prompt_tokens=prompt_tokens),)
        _say_speed(speeds[0])
    calibration = calibration_of(starts, speeds)
    if output is None:
        answer(calibration.to_json())
        return
    try:
        output.write_text(calibration.to_json(), encoding="utf-8")
    except OSError as error_:
        raise SizingError(f"{output}: cannot be written ({error_.strerror})") from None
    say(f"wrote {output}")


def _say_speed(speed: CalibratedSpeed) -> None:
    for point in speed.points:
        bound = f"{point.concurrency} in flight" if point.concurrency else f"{point.requests_per_second:g} requests/s"
        parts = [f"{point.prompt_tokens} in, {point.output_tokens} out, {bound}"]
        if point.output_tokens_per_second and point.predicted_output_tokens_per_second:
            error = point.predicted_output_tokens_per_second / point.output_tokens_per_second - 1
            parts.append(
                f"{point.output_tokens_per_second:.1f} tok/s, predicted {point.predicted_output_tokens_per_second:.1f} "
                f"({error:+.0%})"
            )
        if point.seconds_per_token and point.predicted_seconds_per_token:
            seen, said = 1e3 * point.seconds_per_token, 1e3 * point.predicted_seconds_per_token
            parts.append(f"{seen:.1f} ms a token, predicted {said:.1f} ({said / seen - 1:+.0%})")
        say(": ".join((speed.model, "; ".join(parts))))
    factors = speed.factors
    say(
        f"times on {speed.gpu} are multiplied: steps {factors.fixed_ratio:.2f}, requests {factors.request_ratio:.2f}, "
        f"reading {factors.reading_ratio:.2f}, arithmetic {factors.multiplying_ratio:.2f}; "
        f"{speed.spread_ratio:.1%} stays unexplained"
    )


def with_calibration(device: Device, path: Path | None) -> Device:
    """The device together with what the site has learned about engines on it."""
    if path is None:
        return device
    return replace(device, calibration=Calibration.load(path), calibration_name=path.name)
