"""Result: what a suite found, as documents. Suites write them, the acceptance report embeds them unchanged."""

from typing import Literal

from pydantic import Field

from sizing.documents import Document, Part

Verdict = Literal["passed", "failed", "invalid", "not available"]


class Measurement(Part):
    """One number with its unit; the interval is a 95 % bootstrap interval unless the name says otherwise."""

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = Field(default=None, description="samples behind it")


class Criterion(Part):
    """One thing agreed before the run, beside what was seen."""

    name: str
    agreed: str
    seen: str
    passed: bool


class RatePoint(Part):
    """One offered rate of a sweep; several repeats pooled."""

    offered_per_second: float
    completed_per_second: float
    output_tokens_per_second: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float
    good_ratio: float | None
    failed_count: int
    backlog_ratio: float = Field(description="growth of the queue as a share of arrivals")
    backlog_low: float
    backlog_high: float
    saturated: bool
    repeats: int


class Distribution(Part):
    """A latency distribution at fixed quantiles, enough to draw it; the raw samples lie in the histories."""

    name: str
    unit: str
    count: int
    quantiles: tuple[tuple[float, float], ...] = Field(description="(share of samples, value), ascending")


class Series(Part):
    """A quantity over time."""

    name: str
    unit: str
    points: tuple[tuple[float, float], ...] = Field(description="(seconds from the start, value)")


class FaultResult(Part):
    """One injected fault and what clients saw of it."""

    name: str
    arrangement: str = Field(
        default="appliance", description="what was broken: the appliance, or what stands beside it"
    )
    held: bool | None = Field(default=None, description="everything agreed about it was seen; None = not judged")
    injected_seconds: float
    struck_count: int = Field(default=1, description="runs in which it met the requests that it is about")
    requests: int
    failed: int
    agreed_failed: int = Field(default=0, description="of these, agreed to be possible: streams on a relay that dies")
    failures: dict[str, int] = Field(default={}, description="how requests failed, by class")
    new_requests: int = Field(default=0, description="requests that were due while it was broken")
    new_failed: int = 0
    duplicated: int = Field(description="requests in whose text a part came twice")
    lost_or_altered: int = Field(description="requests in whose text a part is missing, foreign or different")
    wrong: int = Field(default=0, description="answers that their clients took for whole and that were not")
    truncated: int = Field(default=0, description="answers that had begun and broke off, with an error or without")
    false_ends: int = Field(default=0, description="answers that said they were whole and were not")
    recovery_seconds: float | None = Field(description="until the first second from which nothing failed any more")
    ejected_seconds: float | None = Field(default=None, description="until the relay sent nothing there; None = unseen")
    restarted_seconds: float | None = Field(
        default=None, description="until it served again, from its mending, or from the strike where nobody mended it"
    )
    restarted_by_itself: bool | None = Field(default=None, description="whether the site mended it; None = unseen")
    in_flight: int = Field(default=0, description="streams that ran when the fault struck")
    broken_in_flight: int = Field(default=0, description="of these, how many did not end whole")
    gap_p50_seconds: float | None = Field(default=None, description="longest silence of each stream in flight, median")
    gap_p99_seconds: float | None = None
    gap_max_seconds: float | None = None
    gap_agreed_seconds: float | None = Field(default=None, description="what 99 of 100 streams may feel")
    texts_compared: int = Field(default=0, description="texts held against an undisturbed control or a computed one")
    texts_equal: int = Field(default=0, description="of these, whole and equal to the last character")
    used_tokens: dict[str, int] = Field(
        default={}, description="prompt + completion tokens of the run, by who counted: clients, ledger, spend"
    )
    repeats: int = 1


class SuiteResult(Document):
    """One suite's answer to its question."""

    suite: str
    subject: str = Field(default="", description="the model under test, where a suite runs on several")
    question: str
    verdict: Verdict
    started_at: str
    duration_seconds: float
    criteria: tuple[Criterion, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    rate_points: tuple[RatePoint, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    series: tuple[Series, ...] = ()
    faults: tuple[FaultResult, ...] = ()
    objections: tuple[str, ...] = Field(default=(), description="why the run is invalid")
    notes: tuple[str, ...] = ()
    histories: tuple[str, ...] = Field(default=(), description="raw files, relative to the bundle")
