"""Judging one engine: its unit, its lock, its release, its first token, and its figures against the plan's.

A CPU engine gets its KV cache in bytes, so its token count is exact and must be equal. A CUDA engine measures what is
left after its own warm-up, so it must offer at least what the plan promised. Bytes are compared where the engine's
journal still holds its start.
"""

from collections.abc import Iterator
from http import HTTPStatus

from sizing.errors import DocumentError
from sizing.observation import EngineObservation
from sizing.plan import Engine, Plan
from sizing.report import Check
from sizing.start_up_log import StartUp, start_up_of
from sizing.units import GIB, MIB, gib_text
from sizing.verdicts import compare, figure, same_version, status_text

WEIGHTS_TOLERANCE_RATIO = 0.03
WEIGHTS_TOLERANCE_BYTES = 700 * MIB
"""Loading leaves up to this beside the parameters (published start-up ledgers of models with towers)."""
ROUNDING_BYTES = GIB // 100
"""A log prints GiB with two decimals."""


def judge_engine(plan: Plan, host: str, engine: Engine, seen: EngineObservation) -> Iterator[Check]:
    """The checks of one engine. When its unit is not active the rest says nothing new, and is left out."""
    subject = f"{host}/{engine.name}"
    unit = f"vllm@{engine.name}"
    active = seen.active_state == "active"
    yield compare(
        "engine.unit",
        subject,
        f"{unit} is active",
        expected="active",
        seen=seen.active_state or seen.error or "unknown",
        holds=active,
        advice=f"on {host}: `systemctl status {unit}`, `journalctl -u {unit} -n 50`; then run site.yml",
    )
    if not active:
        return
    yield from _lock_and_life(plan, engine, subject, unit, seen)
    yield from _figures(plan, host, engine, subject, seen)
    if seen.start_up_lines:
        yield from _bytes(plan, host, engine, subject, seen)


def _lock_and_life(plan: Plan, engine: Engine, subject: str, unit: str, seen: EngineObservation) -> Iterator[Check]:
    refusals = (seen.keyless_models_status, seen.keyless_chat_status)
    yield compare(
        "engine.locked",
        subject,
        "requests without the API key are refused",
        expected="401 on /v1/models and on /v1/chat/completions",
        seen=" and ".join(status_text(status) for status in refusals),
        holds=refusals == (HTTPStatus.UNAUTHORIZED, HTTPStatus.UNAUTHORIZED),
        advice=f"VLLM_API_KEY did not reach {unit}: look at its environment file in /etc/vllm, run site.yml",
    )
    answered = status_text(seen.first_token_status, seen.error)
    vectors = engine.vllm_options.runner == "pooling"
    numbers_count = seen.vector_numbers_count or 0
    made = figure(numbers_count, "numbers") if vectors else figure(seen.first_token_count, "token")
    yield compare(
        "engine.first-token",
        subject,
        "the engine makes a vector" if vectors else "the engine generates a token",
        expected="200 with a vector" if vectors else "200 with one token",
        seen=f"{answered} with {made}",
        holds=seen.first_token_status == HTTPStatus.OK
        and (numbers_count > 0 if vectors else seen.first_token_count == 1),
        advice=f"`journalctl -u {unit} -n 50` names the error; /health can be 200 while generation fails",
    )
    yield compare(
        "engine.version",
        subject,
        "vLLM is the planned release",
        expected=plan.vllm_version,
        seen=seen.version or "unknown",
        holds=same_version(seen.version, plan.vllm_version),
        advice=f"run site.yml; {unit} takes a new release only when it is restarted",
    )


def _figures(plan: Plan, host: str, engine: Engine, subject: str, seen: EngineObservation) -> Iterator[Check]:
    window_tokens = engine.vllm_options.max_model_len
    run_again = (
        f"the engine runs with other options than the plan's: run site.yml, look at /etc/vllm/{engine.name}.yaml"
    )
    yield compare(
        "engine.window",
        subject,
        "the engine's window is the plan's",
        expected=figure(window_tokens, "tokens"),
        seen=figure(seen.max_model_len, "tokens"),
        holds=seen.max_model_len == window_tokens,
        advice=run_again,
    )
    exact = plan.hosts[host].accelerator == "cpu"
    planned = engine.kv_cache
    yield compare(
        "engine.kv-tokens",
        subject,
        f"the KV cache holds {'' if exact else 'at least '}the planned tokens",
        expected=figure(planned.tokens, "tokens") if exact else f"at least {figure(planned.tokens, 'tokens')}",
        seen=figure(seen.kv_cache_tokens, "tokens"),
        holds=_enough(seen.kv_cache_tokens, planned.tokens, exact=exact),
        advice=run_again if exact else f"{run_again}; if they agree, lower users or context_tokens in request.yml",
    )
    yield compare(
        "engine.kv-blocks",
        subject,
        "the KV cache is cut into blocks as planned",
        expected=f"{'' if exact else 'at least '}{figure(planned.block_count, 'blocks')} of "
        f"{figure(planned.block_size_tokens, 'tokens')}",
        seen=f"{figure(seen.block_count, 'blocks')} of {figure(seen.block_size_tokens, 'tokens')}",
        holds=_enough(seen.block_count, planned.block_count, exact=exact)
        and seen.block_size_tokens == planned.block_size_tokens,
        advice=run_again,
    )


def _bytes(plan: Plan, host: str, engine: Engine, subject: str, seen: EngineObservation) -> Iterator[Check]:
    """Where memory went, as the engine logged it when it started, beside the plan."""
    try:
        start = start_up_of("\n".join(seen.start_up_lines), origin=subject)
    except DocumentError:
        return
    advice = f"`llm-size calibrate` learns from `journalctl -u vllm@{engine.name}`; recommend --calibration uses it"
    planned = engine.memory
    if start.weights_bytes is not None:
        allowed = WEIGHTS_TOLERANCE_BYTES + WEIGHTS_TOLERANCE_RATIO * planned.weights_bytes
        yield compare(
            "engine.weights-bytes",
            subject,
            "the weights take the planned memory",
            expected=gib_text(planned.weights_bytes),
            seen=_with_error(start.weights_bytes, planned.weights_bytes),
            holds=abs(start.weights_bytes - planned.weights_bytes) <= allowed,
            advice=f"the engine loaded another model or quantization than the plan's; {advice}",
        )
    if start.kv_cache_bytes is not None and plan.hosts[host].accelerator == "cuda":
        yield compare(
            "engine.kv-bytes",
            subject,
            "the KV cache has at least the planned memory",
            expected=f"at least {gib_text(planned.kv_cache_bytes)}; beside weights "
            f"{gib_text(planned.requested_bytes - planned.weights_bytes - planned.kv_cache_bytes)}",
            seen=f"{_with_error(start.kv_cache_bytes, planned.kv_cache_bytes)}{_parts(start)}",
            holds=start.kv_cache_bytes + ROUNDING_BYTES >= planned.kv_cache_bytes,
            advice=advice,
        )


def _with_error(seen_bytes: int, planned_bytes: int) -> str:
    return f"{gib_text(seen_bytes)} ({seen_bytes / planned_bytes - 1:+.1%} of the plan)"


def _parts(start: StartUp) -> str:
    parts = (
        ("consumed", start.consumed_bytes),
        ("peak activation", start.activation_bytes),
        ("outside PyTorch", start.non_torch_bytes),
        ("CUDA graphs", start.cuda_graph_bytes),
    )
    return "".join(f", {name} {gib_text(size)}" for name, size in parts if size is not None)


def _enough(seen: int | None, planned: int, *, exact: bool) -> bool:
    if seen is None:
        return False
    return seen == planned if exact else seen >= planned
