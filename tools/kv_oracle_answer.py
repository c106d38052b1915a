"""KV oracle answer: vLLM's own reply to one case, in a process that already pretends to have the device.

Nothing is re-implemented here: EngineArgs -> VllmConfig -> the model class on torch's meta device -> its KV cache
specs -> block size -> layout -> get_kv_cache_configs -> get_kv_cache_capacity -> the check of the CUDA graphs.
"""

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.kv_oracle_cases import OracleCase
from tools.kv_oracle_models import TINY_CONFIGS
from tools.kv_oracle_platform import pretend_ranks

CATALOGUE = Path(__file__).resolve().parents[1] / "sizing" / "catalogue"
MESSAGE_CHARACTERS = 330
OF_THE_PRETENCE = ("Torch not compiled with CUDA enabled", "Device string must not be empty")
"""What a device that is only pretended cannot answer is a fault of the oracle, not a refusal."""
REFUSALS = (ValueError, AssertionError, NotImplementedError, RuntimeError, ZeroDivisionError)


def answer_to(case: OracleCase, *, weights_only: bool = False) -> dict[str, object]:
    """vLLM's answer, or its refusal."""
    with tempfile.TemporaryDirectory(prefix="kv-oracle-") as directory:
        Path(directory, "config.json").write_text(config_of(case.model), encoding="utf-8")
        try:
            return _plan(case, directory, weights_only=weights_only)
        except REFUSALS as refusal:
            if str(refusal).startswith(OF_THE_PRETENCE):
                raise
            return {"refusal": _words(refusal)}


def config_of(model: str) -> str:
    """The config.json of a tiny model or of a row of the catalogue."""
    if model in TINY_CONFIGS:
        return json.dumps(TINY_CONFIGS[model])
    return (CATALOGUE / "models" / f"{model.replace('/', '__')}.json").read_text(encoding="utf-8")


def _words(refusal: Exception) -> str:
    return f"{type(refusal).__name__}: {' '.join(str(refusal).split())}"[:MESSAGE_CHARACTERS]


def _plan(case: OracleCase, directory: str, *, weights_only: bool) -> dict[str, object]:
    settings = _vllm_config(case, directory)
    pretend_ranks(case.tensor_parallel_size)
    model = _build(settings)
    answer: dict[str, object] = {"weight_bytes": sum(one.numel() * one.element_size() for one in model.parameters())}
    if weights_only:
        return answer
    answer |= {
        "max_num_seqs": settings.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": settings.scheduler_config.max_num_batched_tokens,
        "max_in_flight_tokens": settings.max_in_flight_tokens,
    }
    try:
        answer.update(_capacity(case, settings))
    except ValueError as refusal:
        answer["refusal"] = _words(refusal)
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
    whole = _planned(settings, specs, ranks=case.tensor_parallel_size, kv_bytes=case.kv_bytes)
    tokens, concurrency = import_module("vllm.v1.core.kv_cache_utils").get_kv_cache_capacity(settings, whole)
    _check_graphs(settings, whole)
    return {
        "backends": [backend.get_name() for backend in backends],
        "block_size": settings.cache_config.block_size,
        "block_count": whole.num_blocks,
        "max_model_len": settings.model_config.max_model_len,
        "tokens": tokens,
        "max_concurrency": concurrency,
    }


def _planned(settings: Any, specs: Any, *, ranks: int, kv_bytes: int) -> Any:
    """The cache of all ranks; 0.33 moved the planning to a module of its own."""
    common = import_module("vllm.v1.core.kv_cache_utils")
    if hasattr(common, "get_kv_cache_configs"):
        configurations = common.get_kv_cache_configs(settings, [specs] * ranks, [kv_bytes] * ranks)
    else:
        planning = import_module("vllm.v1.core.kv_cache_planning")
        groups = planning.get_global_kv_cache_groups(settings, [specs] * ranks)
        configurations = planning.get_kv_cache_configs(settings, [specs] * ranks, [kv_bytes] * ranks, groups)
    return common.generate_scheduler_kv_cache_config(configurations)


def _check_graphs(settings: Any, whole: Any) -> None:
    """vLLM's last refusal before it serves: more sequences than blocks for their states. Every backend that the
    oracle meets supports graphs of uniform batches at least."""
    support = import_module("vllm.v1.attention.backend").AttentionCGSupport.UNIFORM_BATCH
    settings.compilation_config.resolve_cudagraph_mode_and_sizes(
        support,
        None,
        use_v2_model_runner=True,
        kv_cache_config=whole,
        max_num_reqs=settings.scheduler_config.max_num_seqs,
    )
