"""Report: what was observed on the living site, compared with the plan, check by check."""

from typing import Literal

from sizing.documents import Document, Part

Verdict = Literal["pass", "fail"]


class Check(Part):
    """One comparison. `advice` says what to do when it failed. The part of `id` before the dot is its group."""

    id: str
    subject: str
    statement: str
    expected: str
    seen: str
    verdict: Verdict
    advice: str = ""

    @property
    def group(self) -> str:
        """What the check is about: host, engine, gateway, model, journal or spend."""
        return self.id.partition(".")[0]


class EngineSeen(Part):
    """The living figures of one engine, beside the plan's."""

    host: str
    name: str
    model: str
    version: str | None
    window_tokens: int | None
    kv_cache_tokens: int | None
    memory_current_bytes: int | None
    restart_count: int | None
    first_token_seconds: float | None


class CallSeen(Part):
    """One chat through the gateway, as its client saw it."""

    gateway: str
    model: str
    kind: str
    status: int | None
    served_by: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_seconds: float | None
    seconds: float


class Report(Document):
    """All checks of one run of `llm-size verify`."""

    site: str
    plan_digest: str
    vllm_version: str
    litellm_version: str
    observed_at: str
    observed_seconds: float
    checks: tuple[Check, ...]
    engines: tuple[EngineSeen, ...] = ()
    calls: tuple[CallSeen, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def passed(self) -> tuple[Check, ...]:
        """The checks that hold."""
        return tuple(check for check in self.checks if check.verdict == "pass")
