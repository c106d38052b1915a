"""Report: what was observed on the living site, compared with the plan, check by check."""

from typing import Literal

from sizing.documents import Document, Part

Verdict = Literal["pass", "fail"]


class Check(Part):
    """One comparison. `advice` says what to do when it failed."""

    id: str
    subject: str
    statement: str
    expected: str
    seen: str
    verdict: Verdict
    advice: str = ""


class Report(Document):
    """All checks of one run of `llm-size verify`."""

    site: str
    plan_digest: str
    vllm_version: str
    litellm_version: str
    observed_at: str
    observed_seconds: float
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if check.verdict == "fail")
