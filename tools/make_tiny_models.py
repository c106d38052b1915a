#!/usr/bin/env python3
"""Tiny Qwen3 and Gemma 3 models with random weights, that a real vLLM serves from a CPU.

They stand in for real models wherever the path matters and the words do not: the demo, the lab, the contract with
vLLM. Real architectures (Gemma 3 with its sliding window), real byte-level tokenizers, real chat templates; 1.7 and
2.1 MB. The same seed and libraries give the same bytes, so a manifest made once stays true.

Two things make random weights useful for tests. The output head is wide and untied, so that different prompts give
different words. And its rows for special or unprintable tokens are zero, so that greedy output is never empty and
stops only at max_tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import TensorSpec, serialize_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

MANIFEST = "MANIFEST.sha256"
VOCABULARY = 1024
HIDDEN, INTERMEDIATE = 128, 256
QUERY_HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 4, 2, 64
WINDOW_TOKENS = 4096
WEIGHT_DEVIATION, HEAD_DEVIATION = 0.05, 0.5
WORDS = (
    "the a server model token cache memory latency request batch layer weight prompt answer stream user "
    "router gpu node load test small large fast slow hello world"
)
FEEDFORWARD_NORMS = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
PRINTABLE = re.compile(r"[ -~\n]+")

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# Gemma has no system role: its text opens the first user turn, and the turns must alternate.
GEMMA_TURNS = """\
{{- bos_token }}
{%- set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' %}
{%- for message in (messages[1:] if system else messages) %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{{- (system if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<start_of_turn>model\\n' }}
{%- endif %}"""


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """What tells one architecture from another; the shapes they share are above."""

    name: str
    architecture: str
    model_type: str
    layer_count: int
    special_tokens: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str
    stop_tokens: tuple[str, ...]  # what ends a turn in the generation defaults
    chat_template: str
    norms: tuple[str, ...]  # per layer, besides those of queries and keys
    norm_value: float  # Gemma adds one to its norm weights
    config: Mapping[str, object] = field(default_factory=dict)
    sampling: Mapping[str, object] = field(default_factory=dict)


MODELS = (
    TinyModel(
        name="tiny-qwen3",
        architecture="Qwen3ForCausalLM",
        model_type="qwen3",
        layer_count=3,
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        stop_tokens=("<|im_end|>",),
        chat_template=CHATML,
        norms=("input_layernorm", "post_attention_layernorm"),
        norm_value=1.0,
        config={"hidden_act": "silu", "rope_theta": 10000.0, "use_sliding_window": False, "sliding_window": None},
        sampling={"temperature": 0.6, "top_p": 0.95, "top_k": 20},
    ),
    TinyModel(
        name="tiny-gemma3",
        architecture="Gemma3ForCausalLM",
        model_type="gemma3_text",
        layer_count=4,
        special_tokens=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        stop_tokens=("<eos>", "<end_of_turn>"),
        chat_template=GEMMA_TURNS,
        norms=("input_layernorm", "post_attention_layernorm", *FEEDFORWARD_NORMS),
        norm_value=0.0,
        config={
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "sliding_window": 512,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "query_pre_attn_scalar": HEAD_WIDTH,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
        sampling={"top_p": 0.95, "top_k": 64},
    ),
)


def training_text(seed: int) -> list[str]:
    """Sentences for the tokenizer to learn its merges from."""
    chance = random.Random(seed)  # noqa: S311 - reproducible text, not a secret
    words = WORDS.split()
    sentences = [" ".join(chance.choice(words) for _ in range(chance.randint(4, 16))) + "." for _ in range(4000)]
    return sentences + ["Hello! How are you today?", "What is 2 + 2?", "def f(x):\n    return x + 1\n"] * 50


def train_tokenizer(model: TinyModel, seed: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(model.special_tokens),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(training_text(seed), trainer)
    return tokenizer


def tensor_shapes(model: TinyModel) -> dict[str, tuple[int, ...]]:
    """Every weight matrix and norm by its published name."""
    query, key_value = QUERY_HEADS * HEAD_WIDTH, KEY_VALUE_HEADS * HEAD_WIDTH
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (query, HIDDEN),
        "self_attn.k_proj": (key_value, HIDDEN),
        "self_attn.v_proj": (key_value, HIDDEN),
        "self_attn.o_proj": (HIDDEN, query),
        "self_attn.q_norm": (HEAD_WIDTH,),
        "self_attn.k_norm": (HEAD_WIDTH,),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    } | dict.fromkeys(model.norms, (HIDDEN,))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for index in range(model.layer_count):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper half of each float32, rounded to nearest even; numpy has no such type."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def make_weights(model: TinyModel, tokenizer: Tokenizer, seed: int) -> dict[str, npt.NDArray[np.uint16]]:
    """Random tensors, as the bits of bfloat16."""
    chance = np.random.default_rng(seed)
    special_ids = {tokenizer.token_to_id(token) for token in model.special_tokens}
    tensors = {}
    for name, shape in tensor_shapes(model).items():
        if len(shape) == 1:
            values = np.full(shape, model.norm_value, dtype=np.float32)
        else:
            deviation = HEAD_DEVIATION if name == "lm_head.weight" else WEIGHT_DEVIATION
            values = (chance.standard_normal(shape) * deviation).astype(np.float32)
        if name == "lm_head.weight":
            for token_id in range(VOCABULARY):
                if token_id in special_ids or not PRINTABLE.fullmatch(tokenizer.decode([token_id])):
                    values[token_id] = 0
        tensors[name] = bfloat16(values)
    return tensors


def save_weights(tensors: Mapping[str, npt.NDArray[np.uint16]], path: Path) -> None:
    """One safetensors file. The numpy front end of safetensors has no bfloat16, its core does."""
    specs = {
        name: TensorSpec(
            dtype="bfloat16", shape=list(tensor.shape), data_ptr=tensor.ctypes.data, data_len=tensor.nbytes
        )
        for name, tensor in tensors.items()
    }
    serialize_file(specs, path, {"format": "pt"})


def documents(model: TinyModel, tokenizer: Tokenizer) -> dict[str, object]:
    """The JSON files beside the weights."""
    ids = {token: tokenizer.token_to_id(token) for token in model.special_tokens}
    stop_ids = [ids[token] for token in model.stop_tokens]
    roles = {"eos_token": model.eos, "pad_token": model.pad} | ({"bos_token": model.bos} if model.bos else {})
    token_ids = {
        "bos_token_id": ids[model.bos] if model.bos else None,
        "eos_token_id": ids[model.eos],
        "pad_token_id": ids[model.pad],
    }
    extra_tokens = [token for token in model.special_tokens if token not in roles.values()]
    config = {
        "architectures": [model.architecture],
        "model_type": model.model_type,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": model.layer_count,
        "num_attention_heads": QUERY_HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": WINDOW_TOKENS,
        "rms_norm_eps": 1e-06,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": WEIGHT_DEVIATION,
        "tie_word_embeddings": False,
        "use_cache": True,
    }
    return {
        "config.json": config | token_ids | dict(model.config),
        "generation_config.json": token_ids | {"eos_token_id": stop_ids, "do_sample": True} | dict(model.sampling),
        "special_tokens_map.json": roles | {"additional_special_tokens": extra_tokens},
        "tokenizer_config.json": roles
        | {
            "additional_special_tokens": extra_tokens,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": WINDOW_TOKENS,
            "clean_up_tokenization_spaces": False,
            "chat_template": model.chat_template,
        },
    }


def write_manifest(folder: Path) -> None:
    """The format of sha256sum; the manifest itself is not listed."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def make(model: TinyModel, out: Path, seed: int) -> Path:
    """Write one model folder; an equal one that is there already is left untouched."""
    folder, fresh = out / model.name, out / f".{model.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tokenizer = train_tokenizer(model, seed)
    tokenizer.save(str(fresh / "tokenizer.json"))
    save_weights(make_weights(model, tokenizer, seed), fresh / "model.safetensors")
    for name, content in documents(model, tokenizer).items():
        (fresh / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_manifest(fresh)
    manifest = folder / MANIFEST
    if manifest.is_file() and manifest.read_bytes() == (fresh / MANIFEST).read_bytes():
        shutil.rmtree(fresh)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Parse, make every model, print its folder, and return the exit code."""
    parser = argparse.ArgumentParser(description="Make tiny random-weight Qwen3 and Gemma 3 models for CPU engines.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to hold one folder per model")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    options = parser.parse_args(arguments)
    for model in MODELS:
        print(make(model, options.out, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
