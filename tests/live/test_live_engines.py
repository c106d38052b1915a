"""Engines with random weights on a real GPU: predicted beside observed, without and with a compile cache."""

import json
import os
import platform
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from sizing.calibrate import calibrated_start
from sizing.catalogue import catalogue_text
from sizing.device import Device
from sizing.engine_settings import EngineConfiguration
from sizing.estimate import Estimate, estimate
from sizing.hardware import Hardware
from sizing.model_facts import load_model_facts
from sizing.start_up_log import StartUp, start_up_of
from sizing.units import GIB

pytestmark = pytest.mark.live

LOGS = Path(__file__).parent / "logs"
START_TIMEOUT_SECONDS = 900
POOL_ERROR_RATIO = 0.15


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one engine is started with; text only, for towers need the processor files of a checkpoint."""

    model: str
    max_model_len: int = 8192
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    kv_cache_dtype: str = "auto"

    @property
    def name(self) -> str:
        words = (self.model.split("/")[-1].lower(), self.max_num_batched_tokens, self.max_num_seqs, self.kv_cache_dtype)
        return "-".join(map(str, words)) + ("-eager" if self.enforce_eager else "")


SETTINGS = (
    Setting(model="Qwen/Qwen3-0.6B", max_num_batched_tokens=2048),
    Setting(model="Qwen/Qwen3-8B"),
    Setting(model="Qwen/Qwen3-8B", max_num_batched_tokens=2048, max_num_seqs=8),
    Setting(model="Qwen/Qwen3-8B", max_num_seqs=1024, enforce_eager=True),
    Setting(model="Qwen/Qwen3-8B-FP8", kv_cache_dtype="fp8"),
    Setting(model="Qwen/Qwen2.5-14B-Instruct", max_num_batched_tokens=16384),
    Setting(model="google/gemma-2-9b-it"),
    Setting(model="google/gemma-3-1b-it"),
    Setting(model="Qwen/Qwen3-30B-A3B"),
    Setting(model="Qwen/Qwen3-32B", max_model_len=4096),
)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_engine_gets_the_cache_that_was_predicted(
    setting: Setting, hardware: Hardware, vllm_python: Path, tmp_path: Path
) -> None:
    device = Device.of_gpu(hardware.gpus[0], co_tenants_stay=True)
    for attempt in ("cold", "warm"):
        text = _start(setting, vllm_python, tmp_path, attempt)
        seen = start_up_of(text, origin=f"{setting.name}-{attempt}")
        predicted = estimate(_configuration(setting, device, str(seen.vllm_version)))
        _tell(setting, attempt, seen, predicted)
        _keep(setting, attempt, hardware, seen)

        assert seen.kv_cache_bytes is not None
        low, high = predicted.interval.kv_cache_bytes
        assert low <= seen.kv_cache_bytes <= high, attempt
        assert abs(predicted.per_gpu.kv_cache_bytes / seen.kv_cache_bytes - 1) <= POOL_ERROR_RATIO, attempt
        assert seen.kv_cache_tokens == _tokens_for(setting, device, seen), attempt
        assert calibrated_start(text, origin=setting.name, gpu=device.name, model=setting.model).overhead_bytes > 0


def _start(setting: Setting, python: Path, directory: Path, attempt: str) -> str:
    """The log of one start. The second one finds the compile cache that the first one left."""
    model = directory / "model"
    model.mkdir(exist_ok=True)
    content = catalogue_text(f"models/{setting.model.replace('/', '__')}.json")
    (model / "config.json").write_text(content, encoding="utf-8")
    options = {
        "model": str(model),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "max_model_len": setting.max_model_len,
        "max_num_batched_tokens": setting.max_num_batched_tokens,
        "max_num_seqs": setting.max_num_seqs,
        "gpu_memory_utilization": setting.gpu_memory_utilization,
        "enforce_eager": setting.enforce_eager,
        "kv_cache_dtype": setting.kv_cache_dtype,
    }
    written = directory / "options.json"
    written.write_text(json.dumps(options), encoding="utf-8")
    environment = {
        **os.environ,
        "VLLM_CACHE_ROOT": str(directory / "cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    script = Path(__file__).with_name("start_engine.py")
    ended = subprocess.run(
        [str(python), str(script), str(written)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_TIMEOUT_SECONDS,
        check=False,
    )
    LOGS.mkdir(exist_ok=True)
    (LOGS / f"{setting.name}-{attempt}.log").write_text(ended.stdout, encoding="utf-8")
    assert 0 == ended.returncode, ended.stdout[-2000:]
    return ended.stdout


def _configuration(setting: Setting, device: Device, vllm_version: str) -> EngineConfiguration:
    return EngineConfiguration(
        model=load_model_facts(setting.model),
        device=device,
        max_model_len=setting.max_model_len,
        max_num_batched_tokens=setting.max_num_batched_tokens,
        max_num_seqs=setting.max_num_seqs,
        gpu_memory_utilization=setting.gpu_memory_utilization,
        enforce_eager=setting.enforce_eager,
        kv_cache_dtype=setting.kv_cache_dtype,
        vllm_version=vllm_version.partition("+")[0],
    )


def _tokens_for(setting: Setting, device: Device, seen: StartUp) -> int:
    """Tokens for the logged pool: exact but for the two decimals in which the log prints it."""
    configuration = _configuration(setting, device, str(seen.vllm_version))
    answers = {
        estimate(replace(configuration, kv_cache_memory_bytes=(seen.kv_cache_bytes or 0) + slack)).kv_cache_tokens
        for slack in range(-GIB // 200, GIB // 200, GIB // 20000)
    }
    return seen.kv_cache_tokens if seen.kv_cache_tokens in answers else min(answers)


def _tell(setting: Setting, attempt: str, seen: StartUp, predicted: Estimate) -> None:
    memory = predicted.per_gpu
    error = memory.kv_cache_bytes / (seen.kv_cache_bytes or 1) - 1
    print(
        f"\n{setting.name} {attempt}, vLLM {seen.vllm_version}: KV cache predicted {memory.kv_cache_bytes / GIB:.2f}, "
        f"observed {(seen.kv_cache_bytes or 0) / GIB:.2f} GiB ({error:+.1%}); weights "
        f"{memory.weights_bytes / GIB:.2f} / {(seen.weights_bytes or 0) / GIB:.2f}; activation "
        f"{memory.activation_bytes / GIB:.2f} / {(seen.activation_bytes or 0) / GIB:.2f}; graphs "
        f"{memory.cuda_graph_bytes / GIB:.2f} / {(seen.cuda_graph_estimated_bytes or 0) / GIB:.2f}"
    )


def _keep(setting: Setting, attempt: str, hardware: Hardware, seen: StartUp) -> None:
    path = os.environ.get("LLM_APPLIANCE_LIVE_ROWS")
    if not path:
        return
    gib = {
        "weights_gib": seen.weights_bytes,
        "activation_gib": seen.activation_bytes,
        "non_torch_gib": seen.non_torch_bytes,
        "cuda_graph_estimated_gib": seen.cuda_graph_estimated_bytes,
        "cuda_graph_gib": seen.cuda_graph_bytes,
        "kv_cache_gib": seen.kv_cache_bytes,
    }
    observed: dict[str, float | int | None] = {
        name: round(size / GIB, 2) for name, size in gib.items() if size is not None
    }
    row = {
        "id": f"live-{setting.name}-{attempt}",
        "source": f"measured {datetime.now(UTC):%Y-%m-%d} on {platform.node()}, driver {hardware.driver_version}",
        "model": setting.model,
        "gpu": hardware.gpus[0].name,
        "vllm_version": str(seen.vllm_version).partition("+")[0],
        "gpu_memory_utilization": setting.gpu_memory_utilization,
        "max_model_len": setting.max_model_len,
        "max_num_batched_tokens": setting.max_num_batched_tokens,
        "max_num_seqs": setting.max_num_seqs,
        "kv_cache_dtype": setting.kv_cache_dtype,
        "enforce_eager": setting.enforce_eager,
        "observed": {**observed, "kv_cache_tokens": seen.kv_cache_tokens},
    }
    with Path(path).open("a", encoding="utf-8") as file:
        yaml.safe_dump([row], file, sort_keys=False)
