"""Acceptance criteria: what is agreed before an acceptance run (`acceptance:` in request.yml).

They belong to the request, so the digest in the plan covers them: criteria that change after the plan was made are
refused, like a changed wish. Every number has a default; a site that states none is judged by the defaults.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Part

SuiteName = Literal["smoke", "agreed_load", "throughput", "gateway_overhead", "context", "failover", "soak"]
LENGTH_SPREAD_RATIO = 0.3
"""Standard deviation of the lengths in the agreed load, as a share of their mean."""

DEFAULT_SUITES: tuple[SuiteName, ...] = (
    "smoke",
    "agreed_load",
    "throughput",
    "gateway_overhead",
    "context",
    "failover",
)


class ObjectiveCriteria(Part):
    """How fast an answer has to be, and what share of the requests must be."""

    ttft_ms: float | None = Field(default=2000.0, gt=0, description="time to first token")
    tpot_ms: float | None = Field(default=100.0, gt=0, description="time per further output token")
    e2e_ms: float | None = Field(default=None, gt=0, description="time to the end of the answer")
    share_ratio: float = Field(default=0.95, gt=0, le=1, description="share of requests that meet all of them")

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.e2e_ms is not None and self.ttft_ms is not None and self.e2e_ms <= self.ttft_ms:
            raise ValueError(
                f"e2e_ms {self.e2e_ms:g} is not above ttft_ms {self.ttft_ms:g}: no answer ends before its first token; "
                "raise e2e_ms or lower ttft_ms"
            )
        if self.ttft_ms is None and self.tpot_ms is None and self.e2e_ms is None:
            raise ValueError("an objective needs at least one of ttft_ms, tpot_ms, e2e_ms")
        return self


class AddedLatencyCriteria(Part):
    """What the way through the gateway may add to the median."""

    ttft_ms: float = Field(default=50.0, gt=0)
    itl_ms: float = Field(default=5.0, gt=0)


class SmokeCriteria(Part):
    """The first look at every model."""

    rate_per_second: float = Field(default=1.0, gt=0)
    seconds: float = Field(default=60.0, gt=0)


class WarmedUp(Part):
    """A run whose beginning is left out."""

    seconds: float = Field(gt=0)
    warmup_seconds: float = Field(ge=0)

    @model_validator(mode="after")
    def _something_is_left_to_judge(self) -> Self:
        if self.warmup_seconds >= self.seconds:
            raise ValueError(
                f"warmup_seconds {self.warmup_seconds:g} leaves nothing of {self.seconds:g} seconds to judge"
            )
        return self


class LoadCriteria(WarmedUp):
    """The load at which the objective is judged."""

    rate_per_second: float = Field(default=1.0, gt=0)
    seconds: float = Field(default=120.0, gt=0)
    warmup_seconds: float = Field(default=5.0, ge=0)
    prompt_tokens: int = Field(default=128, gt=0, description="mean")
    output_tokens: int = Field(default=64, gt=0, description="mean")
    language: Literal["en", "ko", "mixed"] = "mixed"
    allowed_failed_ratio: float = Field(default=0.0, ge=0, lt=1)


class ThroughputCriteria(WarmedUp):
    """The sweep to saturation."""

    output_tokens_per_second: float | None = Field(default=None, gt=0, description="to be sustained; none = only find")
    first_rate_per_second: float = Field(default=1.0, gt=0)
    seconds: float = Field(default=60.0, gt=0)
    warmup_seconds: float = Field(default=15.0, ge=0)
    repeats: int = Field(default=3, ge=1)
    halvings: int = Field(default=2, ge=0)


class OverheadCriteria(Part):
    """The comparison of the gateway with the engine behind it."""

    rate_per_second: float | None = Field(default=None, gt=0, description="default: the rate of the load")
    pairs: int = Field(default=6, ge=3)
    seconds: float = Field(default=20.0, gt=2)
    chunks_per_worker: bool = Field(
        default=False, description="fill the gateway to count what each worker passes on; adds a few minutes"
    )


class SoakCriteria(Part):
    """The long run."""

    rate_per_second: float | None = Field(default=None, gt=0, description="default: the rate of the load")
    seconds: float = Field(default=3600.0, ge=120)
    latency_drift_ratio: float = Field(default=0.05, gt=0, description="growth of the median per hour")
    memory_drift_ratio: float = Field(default=0.05, gt=0, description="growth per hour")
    memory_every_seconds: float | None = Field(
        default=60.0, ge=10, description="between looks at the memory of all services; null = not watched"
    )


class FailoverCriteria(Part):
    """What clients may see of a fault."""

    allowed_failed_ratio: float = Field(default=0.0, ge=0, lt=1)
    recovery_seconds: float = Field(default=30.0, gt=0)
    new_requests_count: int = Field(
        default=2000, ge=1, description="at least so many are due while something is broken, and none of them fails"
    )
    rate_per_second: float = Field(default=4.0, gt=0, description="of the load while the site's own hosts are broken")


class AcceptanceCriteria(Part):
    """Everything that is agreed before the run."""

    signer: str | None = Field(default=None, description="who signs, by the name in the list of allowed signers")
    suites: tuple[SuiteName, ...] = Field(default=DEFAULT_SUITES, min_length=1)
    loaded_models: tuple[str, ...] | None = Field(
        default=None, description="models that carry the load suites; default: the first. Every model gets the others"
    )
    objective: ObjectiveCriteria = ObjectiveCriteria()
    added_latency: AddedLatencyCriteria = AddedLatencyCriteria()
    smoke: SmokeCriteria = SmokeCriteria()
    load: LoadCriteria = LoadCriteria()
    throughput: ThroughputCriteria = ThroughputCriteria()
    gateway_overhead: OverheadCriteria = OverheadCriteria()
    soak: SoakCriteria = SoakCriteria()
    failover: FailoverCriteria = FailoverCriteria()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        for names in (self.suites, self.loaded_models or ()):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{name} is named twice")
        bound_ms, added_ms = self.objective.ttft_ms, self.added_latency.ttft_ms
        if bound_ms is not None and added_ms >= bound_ms:
            raise ValueError(
                f"the gateway may add {added_ms:g} ms to the time to first token, which is the whole objective of "
                f"{bound_ms:g} ms; lower added_latency.ttft_ms"
            )
        share, load = self.objective.share_ratio, self.load
        judged = load.rate_per_second * (load.seconds - load.warmup_seconds)
        if "agreed_load" in self.suites and share < 1 and judged * (1 - share) < 1:
            raise ValueError(
                f"a share of {share:.4g} cannot be seen in about {judged:.0f} requests, of which none could miss; "
                f"judge at least {1 / (1 - share):.0f}: raise load.seconds or load.rate_per_second"
            )
        return self

    def check_models(self, windows_tokens: Mapping[str, int]) -> None:
        """Raises ValueError where the load does not fit the models, given by name with their windows."""
        for name in self.models_under_load(tuple(windows_tokens)):
            if name not in windows_tokens:
                raise ValueError(f"acceptance.loaded_models names {name}, which is not a requested model")
            together = self.load.prompt_tokens + self.load.output_tokens
            if together > windows_tokens[name]:
                raise ValueError(
                    f"acceptance.load asks for {together} tokens in the mean, {name} has a window of "
                    f"{windows_tokens[name]}; lower prompt_tokens or output_tokens"
                )

    def models_under_load(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """The models that carry the load suites."""
        return self.loaded_models or models[:1]
