"""Agreed suites: runs each suite of the agreement with what was agreed for it. Suites themselves know no site."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.accept.faults import MANY, Breaking, break_hosts
from benchmarks.load import Lengths, Target, Workload
from benchmarks.metrics import Objective
from benchmarks.probes import MemoryOf
from benchmarks.result import Criterion, SuiteResult
from benchmarks.running import Runner, inline_runner, retrying
from benchmarks.suites.agreed_load import agreed_load
from benchmarks.suites.context import context
from benchmarks.suites.gateway_overhead import gateway_overhead
from benchmarks.suites.gateway_scaling import Scaling
from benchmarks.suites.smoke import PROMPT, smoke
from benchmarks.suites.soak import soak
from benchmarks.suites.throughput import throughput
from benchmarks.validity import Capacity
from sizing.acceptance_criteria import LENGTH_SPREAD_RATIO, AcceptanceCriteria, SuiteName
from sizing.plan import Plan, PlannedModel

QUICK_SUITES: tuple[SuiteName, ...] = ("smoke", "agreed_load", "gateway_overhead", "context")
"""What --quick runs: every kind of evidence in about two minutes."""

EVERY_MODEL: tuple[SuiteName, ...] = ("smoke", "context")
"""Suites that every model gets; the others run on the models under load."""

SMOKE_PROMPT_PARTS = 8
"""Smoke's longest prompt, by our estimate, is this part of what a model takes."""
RETRIES = 2
SCALING_SECONDS = 10.0
FEWEST_LOOKS = 10
"""At the memory of the services in one soak: fewer say nothing about a slope."""

KEY_VARIABLE = "LLM_API_KEY"
ENGINE_KEY_VARIABLE = "LLM_ENGINE_KEY"
FAULT_KEY_VARIABLE = "LLM_FAULT_KEY"
"""A key of their own for requests that may break by agreement: their books are read after each fault."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What suites are run with. `runner` gives a runner for a directory of histories."""

    light_runner: Callable[[Path], Runner]
    load_runner: Callable[[Path], Runner]
    gateway_url: str
    ca_file: Path | None  # whom clients trust, where the gateway's certificate is none of the system's
    engine_url: str | None
    model_store: Path
    raw: Path
    capacity: Capacity | None
    gateway_workers: int
    reached_an_engine: Callable[[str], bool]
    memory_of_services: MemoryOf
    breaking: Breaking
    tell: Callable[[str], None]


def shortened(criteria: AcceptanceCriteria) -> AcceptanceCriteria:
    """The same agreement at lengths that only show that everything works."""
    load = criteria.load
    return criteria.model_copy(
        update={
            "smoke": criteria.smoke.model_copy(update={"seconds": min(8.0, criteria.smoke.seconds)}),
            "load": load.model_copy(update={"seconds": min(15.0, load.seconds), "warmup_seconds": 1.0}),
            "gateway_overhead": criteria.gateway_overhead.model_copy(update={"pairs": 3, "seconds": 5.0}),
        }
    )


def run_suite(name: SuiteName, model: PlannedModel, criteria: AcceptanceCriteria, means: Means) -> SuiteResult:
    """One suite on one model."""
    directory = means.raw / "histories" / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{model.name}")
    target = target_of(model, means)
    job = _Job(model=model, target=target, directory=directory, criteria=criteria, means=means)
    result = _SUITES[name](job)
    prefix = directory.relative_to(means.raw.parent)
    made_again = tuple(f"run again, because this client was late: {reason}" for reason in job.discarded)
    return result.model_copy(
        update={
            "subject": model.name,
            "notes": (*result.notes, *made_again),
            "histories": tuple(f"{prefix}/{history}" for history in result.histories),
        }
    )


def target_of(model: PlannedModel, means: Means) -> Target:
    """Where clients ask for this model."""
    return Target(base_url=means.gateway_url, model=model.name, key_variable=KEY_VARIABLE, ca_file=means.ca_file)


def left_out(name: SuiteName, reason: str, *, subject: str = "") -> SuiteResult:
    """An agreed suite that did not run."""
    return SuiteResult(
        suite=name,
        subject=subject,
        question=QUESTIONS[name],
        verdict="not available",
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_seconds=0.0,
        notes=(reason,),
    )


def broken_off(name: str, error: Exception, *, subject: str) -> SuiteResult:
    """An agreed suite that did not come to its end: counted against the site, and nothing of the others is lost."""
    return SuiteResult(
        suite=name,
        subject=subject,
        question=QUESTIONS.get(name, ""),
        verdict="failed",
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_seconds=0.0,
        criteria=(Criterion(name="came to its end", agreed="yes", seen=str(error), passed=False),),
    )


def models_of(name: SuiteName, plan: Plan, criteria: AcceptanceCriteria) -> Sequence[PlannedModel]:
    """The models that a suite runs on; all of them chat."""
    chats = [model for model in plan.models if model.task == "chat"]
    if name in EVERY_MODEL:
        return chats
    loaded = criteria.models_under_load(tuple(model.name for model in chats))
    return [model for model in chats if model.name in loaded]


@dataclass(frozen=True, kw_only=True)
class _Job:
    model: PlannedModel
    target: Target
    directory: Path
    criteria: AcceptanceCriteria
    means: Means
    discarded: list[str] = field(default_factory=list)

    @property
    def light(self) -> Runner:
        return self._patient(self.means.light_runner(self.directory))

    @property
    def loaded(self) -> Runner:
        return self._patient(self.means.load_runner(self.directory))

    def _patient(self, runner: Runner) -> Runner:
        """A run in which our own client was late is made again: its requests are booked, its times are not judged."""
        return retrying(runner, times=RETRIES, discarded=self.discarded)

    @property
    def tokenizer(self) -> Path | None:
        """The model's own, where the library and the file are at hand."""
        path = self.means.model_store / self.model.model_directory / "tokenizer.json"
        return path if path.is_file() and importlib.util.find_spec("tokenizers") else None

    @property
    def workload(self) -> Workload:
        load, spread = self.criteria.load, LENGTH_SPREAD_RATIO
        prompt_maximum, output_maximum = self.model.max_input_tokens // 2, self.model.max_output_tokens
        return Workload(
            language=load.language,
            prompt=Lengths(mean_tokens=load.prompt_tokens, spread_ratio=spread, maximum_tokens=prompt_maximum),
            output=Lengths(mean_tokens=load.output_tokens, spread_ratio=spread, maximum_tokens=output_maximum),
        )  # lengths are estimates: counting them exactly would take time from the schedule; the server's count is kept

    @property
    def objective(self) -> Objective:
        agreed = self.criteria.objective
        return Objective(ttft_ms=agreed.ttft_ms, tpot_ms=agreed.tpot_ms, e2e_ms=agreed.e2e_ms)


def _smoke(job: _Job) -> SuiteResult:
    agreed = job.criteria.smoke
    # Estimated lengths: a small model's tokenizer may cut Korean into six times as many, and all of it has to fit.
    longest = max(1, job.model.max_input_tokens // SMOKE_PROMPT_PARTS)
    prompt = PROMPT.model_copy(update={"mean_tokens": min(PROMPT.mean_tokens, longest), "maximum_tokens": longest})
    return smoke(job.light, job.target, seconds=agreed.seconds, rate_per_second=agreed.rate_per_second, prompt=prompt)


def _agreed_load(job: _Job) -> SuiteResult:
    load = job.criteria.load
    return agreed_load(
        job.loaded,
        job.target,
        workload=job.workload,
        rate_per_second=load.rate_per_second,
        seconds=load.seconds,
        warmup_seconds=load.warmup_seconds,
        objective=job.objective,
        share=job.criteria.objective.share_ratio,
        allowed_failed_ratio=load.allowed_failed_ratio,
        capacity=job.means.capacity,
    )


def _throughput(job: _Job) -> SuiteResult:
    agreed = job.criteria.throughput
    return throughput(
        job.loaded,
        job.target,
        workload=job.workload,
        first_rate=agreed.first_rate_per_second,
        seconds=agreed.seconds,
        warmup_seconds=agreed.warmup_seconds,
        repeats=agreed.repeats,
        halvings=agreed.halvings,
        objective=job.objective,
        agreed_tokens_per_second=agreed.output_tokens_per_second,
        capacity=job.means.capacity,
        tell=job.means.tell,
    )


def _gateway_overhead(job: _Job) -> SuiteResult:
    agreed, bounds = job.criteria.gateway_overhead, job.criteria.added_latency
    deployment = job.model.deployments[0]
    engine = Target(
        base_url=job.means.engine_url or deployment.api_base,
        model=deployment.served_model_name,
        key_variable=ENGINE_KEY_VARIABLE,
    )
    scaled = None
    if agreed.chunks_per_worker and job.means.gateway_workers > 1:
        seconds = min(SCALING_SECONDS, agreed.seconds)
        scaled = Scaling(
            gateways={job.means.gateway_workers: job.target},
            engine=engine,
            workload=job.workload,
            seconds=seconds,
            warmup_seconds=seconds * 0.3,
        )
    result = gateway_overhead(
        job.loaded,
        gateway=job.target,
        engine=engine,
        workload=job.workload,
        rate_per_second=agreed.rate_per_second or job.criteria.load.rate_per_second,
        pairs=agreed.pairs,
        seconds=agreed.seconds,
        warmup_seconds=min(2.0, agreed.seconds / 4),
        agreed_ttft_ms=bounds.ttft_ms,
        agreed_itl_ms=bounds.itl_ms,
        scaled=scaled,
        capacity=job.means.capacity,
    )
    note = f"the straight side is {deployment.id} at {engine.base_url}"
    if len(job.model.deployments) > 1:
        note += f"; the gateway shares its side among {len(job.model.deployments)} replicas"
    return result.model_copy(update={"notes": (*result.notes, note)})


def _context(job: _Job) -> SuiteResult:
    return context(
        job.light,
        job.target,
        max_input_tokens=job.model.max_input_tokens,
        window_tokens=job.model.window_tokens,
        tokenizer=job.tokenizer,
        engine_log_contains=job.means.reached_an_engine,
    )


def _soak(job: _Job) -> SuiteResult:
    agreed = job.criteria.soak
    return soak(
        job.loaded,
        job.target,
        workload=job.workload,
        rate_per_second=agreed.rate_per_second or job.criteria.load.rate_per_second,
        seconds=agreed.seconds,
        warmup_seconds=min(60.0, agreed.seconds / 10),
        memory=None if agreed.memory_every_seconds is None else job.means.memory_of_services,
        memory_every_seconds=min(agreed.memory_every_seconds or agreed.seconds, agreed.seconds / FEWEST_LOOKS),
        agreed_latency_drift_ratio=agreed.latency_drift_ratio,
        agreed_memory_drift_ratio=agreed.memory_drift_ratio,
        capacity=job.means.capacity,
    )


def _failover(job: _Job) -> SuiteResult:
    """On the site's own hosts; `loopback_failover` is the part that breaks nothing there."""
    if len(job.model.deployments) < MANY:
        return left_out("failover", f"{job.model.name} has one engine: nothing could go on without it")
    return break_hosts(
        inline_runner(job.directory),  # starts at once and only once: a fault strikes when it should
        job.target.model_copy(update={"key_variable": FAULT_KEY_VARIABLE}),
        model=job.model,
        workload=job.workload,
        agreed=job.criteria.failover,
        site=job.means.breaking,
        capacity=job.means.capacity,
        tell=job.means.tell,
    )


_SUITES: dict[SuiteName, Callable[[_Job], SuiteResult]] = {
    "smoke": _smoke,
    "agreed_load": _agreed_load,
    "throughput": _throughput,
    "gateway_overhead": _gateway_overhead,
    "context": _context,
    "failover": _failover,
    "soak": _soak,
}
QUESTIONS: dict[str, str] = {
    "smoke": "Does the site answer every request, with whole and unmixed texts?",
    "agreed_load": "At the agreed load, does the agreed share of requests meet the agreed times?",
    "throughput": "How many requests and tokens per second does the site sustain?",
    "gateway_overhead": "How much time does the gateway add?",
    "context": "Does the whole window work, and is a request beyond it refused by the gateway?",
    "failover": "What do clients see while something breaks, and how soon is it over?",
    "soak": "Does latency or memory grow while the load stays the same?",
}
