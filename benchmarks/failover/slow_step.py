"""Slow step: a logits processor for vLLM that changes no logit and takes its time, so that a tiny model's answer lasts.

A model of two megabytes ends its answer before a fault can strike in it. vLLM loads this class into its workers
(`--logits-processors benchmarks.failover.slow_step:SlowStep`); nothing of the appliance does.
"""

import os
import time
from typing import Any

from vllm.v1.sample.logits_processor import LogitsProcessor

SECONDS_VARIABLE = "LLM_APPLIANCE_STEP_SECONDS"


class SlowStep(LogitsProcessor):  # type: ignore[misc]  # vLLM lives in the engine's environment only
    """Sleeps once a step, whatever the batch."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:  # noqa: ARG002  vLLM's signature
        self._seconds = float(os.environ.get(SECONDS_VARIABLE, "0"))

    def apply(self, logits: Any) -> Any:
        """The same logits, later."""
        time.sleep(self._seconds)
        return logits

    def is_argmax_invariant(self) -> bool:
        """False: vLLM leaves out what changes no greedy answer, and this must be called in every step."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """It remembers nothing of requests."""
