"""Step seconds: the step times of one configuration in the form that the simulation asks for."""

from sizing.serving import StepSeconds
from sizing.speed import StepTime


def steps_of(times: StepTime, *, slowness_ratio: float = 1.0) -> StepSeconds:
    """Step times for `simulate`; `slowness_ratio` scales them, for the ends of the interval."""
    ask = times.step_seconds

    def step_seconds(decoding: int, context_tokens: int, prefill_tokens: int, pairs: float) -> float:
        # StepTime takes the prefill for one prompt; several short ones attend to less, which the context makes up.
        before = int(pairs / prefill_tokens - (prefill_tokens + 1) / 2) if prefill_tokens else 0
        return slowness_ratio * ask(
            decode_count=decoding,
            decode_context_tokens=context_tokens,
            prefill_tokens=prefill_tokens,
            prefill_context_tokens=before,
        )

    return step_seconds
