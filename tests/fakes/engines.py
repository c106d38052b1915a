"""Small models and devices that tests reason about by hand: two tiny models that real vLLM has served, and machines."""

from sizing.device import Device, find_gpu
from sizing.engine_settings import EngineConfiguration
from sizing.hardware import Cpu, Hardware
from sizing.model_facts import ModelFacts, load_model_facts, model_facts_of
from sizing.units import GIB


def tiny_config(**changes: object) -> dict[str, object]:
    """A Qwen3 of 3 layers, 2 KV heads of 64; None takes a key out."""
    config: dict[str, object] = {
        "architectures": ["Qwen3ForCausalLM"],
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not None}


def tiny_qwen() -> ModelFacts:
    return model_facts_of(tiny_config(), name="tiny-qwen3", source="tiny-qwen3")


def tiny_gemma() -> ModelFacts:
    """Three sliding layers of 512 tokens and a full one."""
    config = tiny_config(
        architectures=["Gemma3ForCausalLM"],
        num_hidden_layers=4,
        sliding_window=512,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
    )
    return model_facts_of(config, name="tiny-gemma3", source="tiny-gemma3")


def cpu_device(*flags: str, memory_bytes: int = 24 * GIB) -> Device:
    cpu = Cpu(model="EPYC", architecture="x86_64", cores=(0, 1), flags=flags)
    return Device.of_cpu(Hardware(host="h2", accelerator="cpu", cpu=cpu, memory_total_bytes=memory_bytes))


def gpu_device(name: str = "H100") -> Device:
    return Device.of_gpu(find_gpu(name).as_gpu())


def on_gpu(model: str, gpu: str = "H100", **options: object) -> EngineConfiguration:
    """A catalogue model on a catalogue GPU."""
    return EngineConfiguration(model=load_model_facts(model), device=gpu_device(gpu), **options)  # type: ignore[arg-type]
