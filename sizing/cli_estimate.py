"""The verb that answers "what happens if I run exactly this?": estimate."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sizing.answer import Estimate, Refusal
from sizing.cli_bars import print_estimate
from sizing.cli_calibrate import CALIBRATION_HELP, with_calibration
from sizing.cli_console import answer, human_console
from sizing.cli_diff import print_differences
from sizing.cli_inputs import Devices, choose_devices, choose_model, quantity, quantity_or_auto
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.errors import EngineRefuses
from sizing.estimate import EngineConfiguration, estimate

ESTIMATE_EXAMPLES = """\b
Examples:
  llm-size estimate --model Qwen/Qwen3-32B --gpu "NVIDIA H100 80GB HBM3" --max-model-len 32768
  llm-size estimate --model google/gemma-3-27b-it --gpu L40S:2 --tensor-parallel-size 2 --json
  llm-size estimate --model-dir ./my-model --hardware hardware.json
  llm-size estimate --model Qwen/Qwen3.5-27B --gpu H100 --max-model-len 32k --diff-versions 0.32.0,0.33.0
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("estimate", epilog=ESTIMATE_EXAMPLES, short_help="What happens if I run exactly this?")(
        estimate_command
    )


def estimate_command(
    *,
    model: Annotated[str | None, typer.Option(metavar="ID", help="A model of the catalogue, or a directory.")] = None,
    model_dir: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="A directory with a config.json.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A config.json alone.")] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME[:COUNT]", help="A GPU of the catalogue. Default: NVML of this host.")
    ] = None,
    hardware: Annotated[Path | None, typer.Option(metavar="FILE", help="What `llm-size probe` measured.")] = None,
    tensor_parallel_size: Annotated[int, typer.Option(metavar="N", min=1)] = 1,
    pipeline_parallel_size: Annotated[int, typer.Option(metavar="N", min=1)] = 1,
    gpu_memory_utilization: Annotated[float | None, typer.Option(metavar="RATIO", help="0 to 1.")] = None,
    max_model_len: Annotated[str | None, typer.Option(metavar="N|auto", help="Also 32k or 32K.")] = None,
    quantization: Annotated[str | None, typer.Option(metavar="none|fp8", help="Default: the checkpoint's own.")] = None,
    kv_cache_dtype: Annotated[str, typer.Option(metavar="auto|fp8")] = "auto",
    max_num_batched_tokens: Annotated[str | None, typer.Option(metavar="N")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    enforce_eager: Annotated[bool, typer.Option("--enforce-eager", help="No CUDA graphs.")] = False,
    limit_mm_per_prompt: Annotated[str | None, typer.Option(metavar="JSON", help='For example {"image": 2}.')] = None,
    language_model_only: Annotated[bool, typer.Option("--language-model-only")] = False,
    block_size: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    kv_cache_memory_bytes: Annotated[
        str | None, typer.Option(metavar="N", help="A KV cache of this size; skips the estimate of the rest.")
    ] = None,
    vllm_version: Annotated[str, typer.Option(metavar="VERSION")] = DEFAULT_VLLM_VERSION,
    diff_versions: Annotated[
        str | None, typer.Option(metavar="A,B", help="What changes between two versions of vLLM instead.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(metavar="FILE", help=CALIBRATION_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")] = False,
) -> int:
    """What happens if I run exactly this? One configuration in, one memory budget and verdict out.

    Options carry vLLM's own names; what is not given is what vLLM would choose.
    Exit code 0: it fits. 3: it does not fit, or vLLM refuses it (the JSON is printed all the same).
    """
    facts = choose_model(model=model, model_dir=model_dir, config=config)
    devices = choose_devices(gpu=gpu, hardware=hardware, co_tenants_stay=gpu is None and hardware is None)
    wanted_count = tensor_parallel_size * pipeline_parallel_size
    configuration = EngineConfiguration(
        model=facts,
        device=with_calibration(devices.device, calibration),
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
        max_model_len=None if max_model_len is None else quantity_or_auto(max_model_len),
        quantization=None if quantization == "none" else quantization,
        kv_cache_dtype=kv_cache_dtype,
        max_num_batched_tokens=None if max_num_batched_tokens is None else quantity(max_num_batched_tokens),
        max_num_seqs=max_num_seqs,
        enforce_eager=enforce_eager,
        block_size=block_size,
        kv_cache_memory_bytes=None if kv_cache_memory_bytes is None else quantity(kv_cache_memory_bytes),
        language_model_only=language_model_only,
        limit_mm_per_prompt=None if limit_mm_per_prompt is None else _limits(limit_mm_per_prompt),
        vllm_version=vllm_version,
    )
    if diff_versions is not None:
        title = f"{facts.name} on {wanted_count} x {devices.device.name}"
        return print_differences(configuration, diff_versions, title=title, as_json=as_json)
    result = estimate(configuration)
    named_count = wanted_count if gpu is not None and ":" not in gpu else devices.count
    if wanted_count > named_count and devices.device.accelerator == "cuda":
        result = _too_few_gpus(result, wanted_count, devices)
    if as_json:
        answer(result.model_dump_json(indent=2))
    else:
        title = f"{facts.name} on {wanted_count} x {result.gpu}, vLLM {result.vllm_version}"
        print_estimate(human_console(), result, title=title)
    return 0 if result.verdict == "fits" else EngineRefuses.exit_code


def _too_few_gpus(result: Estimate, wanted_count: int, devices: Devices) -> Estimate:
    message = f"tensor x pipeline parallel size asks for {wanted_count} GPUs; {devices.origin} has {devices.count}"
    refusal = Refusal(rule="gpu_count", message=message, source="sizing")
    return result.model_copy(update={"verdict": "refused", "refusals": (refusal, *result.refusals)})


def _limits(text: str) -> dict[str, int]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--limit-mm-per-prompt is not JSON: {error.msg}") from None
    if not isinstance(content, dict) or not all(isinstance(value, int) and value >= 0 for value in content.values()):
        raise typer.BadParameter('--limit-mm-per-prompt must be an object of counts, such as {"image": 2}')
    return content
