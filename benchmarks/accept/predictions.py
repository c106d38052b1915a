"""Predictions: what the plan promised, beside what `verify` read from the living engines."""

from benchmarks.acceptance import Prediction
from sizing.plan import Plan
from sizing.report import EngineSeen, Report


def predictions(plan: Plan, report: Report) -> tuple[Prediction, ...]:
    """KV cache tokens and window of every engine. A CPU engine's cache is exact; a GPU engine's is a lower bound."""
    seen = {(engine.host, engine.name): engine for engine in report.engines}
    found: list[Prediction] = []
    for host, engine in plan.engines():
        subject, living = f"{host}/{engine.name}", seen.get((host, engine.name))
        exact = plan.hosts[host].accelerator == "cpu"
        found.append(
            Prediction(
                subject=subject,
                name="KV cache",
                unit="tokens",
                predicted=engine.kv_cache.tokens,
                predicted_low=None if exact else engine.kv_cache.tokens,
                measured=_number(living, "kv_cache_tokens"),
                exact=exact,
            )
        )
        found.append(
            Prediction(
                subject=subject,
                name="context window",
                unit="tokens",
                predicted=engine.vllm_options.max_model_len,
                measured=_number(living, "window_tokens"),
                exact=True,
            )
        )
    return tuple(found)


def _number(engine: EngineSeen | None, name: str) -> float | None:
    value = getattr(engine, name, None)
    return None if value is None else float(value)
