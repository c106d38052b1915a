"""Faults: what can be broken on a living site, and how it is mended. Fault results of an acceptance enter here and
nowhere else: whoever adds a fault adds it to `faults_of`, and the failover suite, the report and its page have it.
"""

from collections.abc import Sequence

from benchmarks.accept.hosts import Hosts
from benchmarks.load import Lengths, Target, Workload
from benchmarks.result import SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.failover import Conditions, Fault, failover
from sizing.plan import PlannedModel

FALLBACK_QUESTION = "Do clients notice when every engine of a model is gone and its declared fallback answers?"
RATE_PER_SECOND = 2.0
SECONDS, STOP_AT_SECONDS, START_AT_SECONDS = 40.0, 8.0, 28.0


def faults_of(model: PlannedModel) -> Sequence[Fault]:  # noqa: ARG001  what can break depends on the model
    """The faults that the failover suite injects for one model; none until engines can die unseen."""
    return ()


def exercise_fallback(run: Runner, target: Target, *, model: PlannedModel, hosts: Hosts) -> SuiteResult:
    """Stops every engine of the model under load and starts them again."""

    def bring(state: str) -> None:
        hosts.play("engine_state.yml", {"engine_model": model.name, "engine_state": state})

    stopped = Fault(
        name=f"all engines of {model.name} are stopped",
        inject=lambda: bring("stopped"),
        heal=lambda: bring("started"),
        hits_running=False,  # it is about the requests that come while no engine is there
    )
    try:
        result = failover(
            run,
            target,
            faults=[stopped],
            conditions=Conditions(
                workload=Workload(prompt=Lengths(mean_tokens=64), output=Lengths(mean_tokens=24, spread_ratio=0.3)),
                rate_per_second=RATE_PER_SECOND,
                seconds=SECONDS,
                inject_at_seconds=STOP_AT_SECONDS,
                heal_at_seconds=START_AT_SECONDS,
            ),
        )
    finally:
        bring("started")  # whatever happened to the run or to its healing
    return result.model_copy(update={"suite": "fallback", "subject": model.name, "question": FALLBACK_QUESTION})
