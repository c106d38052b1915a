"""The verb that learns from the site's own engines: calibrate."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sizing.calibrate import calibrate
from sizing.calibration import Calibration
from sizing.cli_console import answer, say
from sizing.device import Device
from sizing.errors import SizingError
from sizing.units import gib_text

CALIBRATE_EXAMPLES = """\b
Examples:
  journalctl -u vllm@qwen-0 -b -o cat > qwen-0.log && llm-size calibrate qwen-0.log --output calibration.json
  llm-size estimate --model Qwen/Qwen3-32B --gpu H100 --calibration calibration.json
"""

CALIBRATION_HELP = "What `llm-size calibrate` learned from this site's own starts."


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("calibrate", epilog=CALIBRATE_EXAMPLES, short_help="Learn overheads from start-up logs.")(
        calibrate_command
    )


def calibrate_command(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", help="Start-up logs of vLLM, one start each.")],
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="The GPU, where its memory alone does not tell which it is.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="The model, where the logs name a path that is not here.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the calibration goes. Default: stdout.")
    ] = None,
) -> None:
    """Learn this site's own overheads from vLLM's start-up logs.

    Prints for each log what sizing had predicted and what vLLM logged, and writes a small JSON document.
    """
    calibration = calibrate(logs, gpu=gpu, model=model)
    for start in calibration.starts:
        error = start.predicted_kv_cache_bytes / start.kv_cache_bytes - 1 if start.kv_cache_bytes > 0 else 0.0
        say(
            f"{start.log}: {start.model} on {start.tensor_parallel_size} x {start.gpu}, vLLM {start.vllm_version}: "
            f"KV cache {gib_text(start.kv_cache_bytes)}, predicted {gib_text(start.predicted_kv_cache_bytes)} "
            f"({error:+.1%}); overhead {gib_text(start.overhead_bytes)}, predicted "
            f"{gib_text(start.predicted_overhead_bytes)}"
        )
    if output is None:
        answer(calibration.to_json())
        return
    try:
        output.write_text(calibration.to_json(), encoding="utf-8")
    except OSError as error_:
        raise SizingError(f"{output}: cannot be written ({error_.strerror})") from None
    say(f"wrote {output}")


def with_calibration(device: Device, path: Path | None) -> Device:
    """The device together with what the site has learned about engines on it."""
    if path is None:
        return device
    return replace(device, calibration=Calibration.load(path), calibration_name=path.name)
