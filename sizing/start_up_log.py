"""Start-up log: what vLLM says about its memory while it starts, in the words of 0.19 to 0.33, GPU and CPU.

Lines may carry anything in front (journal stamps, process names, colours). Several ranks say the same with small
differences: the cache follows the rank with the least room, so that rank's figures are kept. Figures in GiB are printed
with two decimals; more cannot be known.
"""

import ast
import re
from collections.abc import Callable

from sizing.documents import Part
from sizing.errors import DocumentError
from sizing.units import GIB

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_NUMBER = r"(-?[\d,]+(?:\.\d+)?)"


class StartUp(Part):
    """One start of one engine, as far as its log tells."""

    vllm_version: str | None = None
    model: str | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    language_model_only: bool = False
    limit_mm_per_prompt: dict[str, int] | None = None
    gpu_memory_utilization: float | None = None
    second_runner: bool | None = None
    compile_cache_was_warm: bool | None = None
    device_total_bytes: int | None = None
    device_free_bytes: int | None = None
    requested_bytes: int | None = None
    weights_bytes: int | None = None
    activation_bytes: int | None = None
    non_torch_bytes: int | None = None
    consumed_bytes: int | None = None
    cuda_graph_bytes: int | None = None
    cuda_graph_estimated_bytes: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None
    max_concurrency_ratio: float | None = None


def start_up_of(text: str, *, origin: str) -> StartUp:
    """The last start in a log. Raises DocumentError, in one line, for a log that holds no start of vLLM."""
    lines = _COLOURS.sub("", text).splitlines()
    found: dict[str, object] = {}
    for line in lines:
        if "Initializing a V1 LLM engine" in line:
            found = {key: found[key] for key in _FROM_ARGUMENTS if key in found}
        for pattern, reader in _READERS:
            match = pattern.search(line)
            if match is not None:
                reader(found, match)
    if not found.keys() & {"weights_bytes", "kv_cache_bytes", "kv_cache_tokens"}:
        raise DocumentError(f"{origin}: no start of vLLM in it; give the engine's log from its first line on")
    return StartUp.model_validate(found)


_FROM_ARGUMENTS = (
    *("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "language_model_only"),
    "limit_mm_per_prompt",
)

_Found = dict[str, object]
_Reader = Callable[[_Found, re.Match[str]], None]


def _gib(text: str) -> int:
    return round(float(text.replace(",", "")) * GIB)


def _first(found: _Found, key: str, value: object) -> None:
    found.setdefault(key, value)


def _least(found: _Found, key: str, value: float) -> None:
    present = found.get(key)
    found[key] = min(present, value) if isinstance(present, (int, float)) else value


def _most(found: _Found, key: str, value: int) -> None:
    present = found.get(key)
    found[key] = max(present, value) if isinstance(present, int) else value


def _engine(found: _Found, match: re.Match[str]) -> None:
    found["vllm_version"] = match[1]
    rest = match.string[match.end() :]
    for key, name, read in (
        ("model", r"model='([^']+)'", str),
        ("tensor_parallel_size", r"tensor_parallel_size=(\d+)", int),
        ("pipeline_parallel_size", r"pipeline_parallel_size=(\d+)", int),
        ("quantization", r"\bquantization=(\w[\w-]*)", str),
        ("kv_cache_dtype", r"kv_cache_dtype=(\w+)", str),
        ("max_model_len", r"max_seq_len=(\d+)", int),
    ):
        value = re.search(name, rest)
        if value is not None and value[1] != "None":
            found[key] = read(value[1])
    found["enforce_eager"] = "enforce_eager=True" in rest


def _arguments(found: _Found, match: re.Match[str]) -> None:
    """`non-default args: {...}`: a Python dictionary; one that is cut short is left alone."""
    try:
        given = ast.literal_eval(match[1])
    except (SyntaxError, ValueError):
        return
    if not isinstance(given, dict):
        return
    for key, kinds in (
        ("max_num_seqs", int),
        ("max_num_batched_tokens", int),
        ("gpu_memory_utilization", float),
        ("language_model_only", bool),
    ):
        if isinstance(given.get(key), kinds):
            found[key] = given[key]
    limits = given.get("limit_mm_per_prompt")
    if isinstance(limits, dict) and all(isinstance(count, int) for count in limits.values()):
        found["limit_mm_per_prompt"] = limits


def _free(found: _Found, match: re.Match[str]) -> None:
    _least(found, "device_free_bytes", _gib(match[1]))
    found["device_total_bytes"] = _gib(match[2])


def _desired(found: _Found, match: re.Match[str]) -> None:
    found["gpu_memory_utilization"] = float(match[1])
    found["requested_bytes"] = _gib(match[2])


def _bytes_of(key: str, keep: Callable[[_Found, str, int], None]) -> _Reader:
    return lambda found, match: keep(found, key, _gib(match[1]))


def _tokens(found: _Found, match: re.Match[str]) -> None:
    _least(found, "kv_cache_tokens", int(match[1].replace(",", "")))


def _concurrency(found: _Found, match: re.Match[str]) -> None:
    found.setdefault("max_model_len", int(match[1].replace(",", "")))
    _least(found, "max_concurrency_ratio", float(match[2]))


def _batched_tokens(found: _Found, match: re.Match[str]) -> None:
    found["max_num_batched_tokens"] = int(match[1])


def _flag(key: str, value: bool) -> _Reader:
    return lambda found, _match: _first(found, key, value)


def _graph_pool(found: _Found, match: re.Match[str]) -> None:
    _most(found, "cuda_graph_bytes", _gib(match[1]))
    _most(found, "cuda_graph_estimated_bytes", _gib(match[2]))


_READERS: tuple[tuple[re.Pattern[str], _Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"Initializing a V1 LLM engine \(v([^)]+)\) with config:", _engine),
        (r"non-default args: (\{.*\})", _arguments),
        (r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)", _batched_tokens),
        (r"Defaulting max_num_seqs to (\d+)", lambda found, match: _first(found, "max_num_seqs", int(match[1]))),
        (r"Using V2 Model Runner", _flag("second_runner", True)),
        (r"Directly load the compiled graph", _flag("compile_cache_was_warm", True)),
        (r"Cache the graph of compile range", _flag("compile_cache_was_warm", False)),
        (r"Model loading took " + _NUMBER + " GiB", _bytes_of("weights_bytes", _most)),
        (r"Available KV cache memory: " + _NUMBER + " GiB", _bytes_of("kv_cache_bytes", _least)),
        (r"reserved " + _NUMBER + " GiB memory for KV Cache as", _bytes_of("kv_cache_bytes", _least)),
        (r"[GC]PU KV cache size: " + _NUMBER + " tokens", _tokens),
        (r"Maximum concurrency for " + _NUMBER + r" tokens per request: ([\d.]+)x", _concurrency),
        (r"Estimated CUDA graph memory: " + _NUMBER + " GiB", _bytes_of("cuda_graph_estimated_bytes", _most)),
        (r"Graph capturing finished in .* took " + _NUMBER + " GiB", _bytes_of("cuda_graph_bytes", _most)),
        (r"CUDA graph pool memory: " + _NUMBER + r" GiB \(actual\), " + _NUMBER + " GiB", _graph_pool),
        (r"Free memory on device [^(]*\(" + _NUMBER + "/" + _NUMBER + " GiB", _free),
        (r"Desired GPU memory utilization is \(([\d.]+), " + _NUMBER + " GiB", _desired),
        (r"Actual usage is " + _NUMBER + " GiB for consumed", _bytes_of("consumed_bytes", _most)),
        (_NUMBER + " GiB for peak activation", _bytes_of("activation_bytes", _most)),
        (_NUMBER + " GiB for non-torch memory", _bytes_of("non_torch_bytes", _most)),
        (r"torch peak memory increase: " + _NUMBER + "GiB", _bytes_of("activation_bytes", _most)),
        (r"non-torch forward increase memory: " + _NUMBER + "GiB", _bytes_of("non_torch_bytes", _most)),
        (r"worker requested memory: " + _NUMBER + "GiB", _bytes_of("requested_bytes", _least)),
        (r"total_memory=" + _NUMBER + "GiB", _bytes_of("device_total_bytes", _least)),
    )
)
