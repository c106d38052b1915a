"""Faults: what can be broken on a living site, and how it is mended. Fault results of an acceptance enter here and
nowhere else: whoever adds a fault adds it to `faults_of`, and the failover suite, the report and its page have it.

Where the inventory names a program that breaks hosts (`accept_fault_command`: the lab's own), everything of
`lab_faults` is done. Elsewhere services are killed and frozen through Ansible, which needs a few seconds for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from benchmarks.accept.hosts import Hosts
from benchmarks.failover.arrangements import line_of
from benchmarks.failover.books import Book
from benchmarks.failover.control import measured
from benchmarks.failover.faults import AFTER_STALL_SECONDS, CRASH_GAP_SECONDS
from benchmarks.failover.lab import Lab, gateway_spend, relay_ledgers
from benchmarks.failover.lab_faults import Ground, lab_faults
from benchmarks.load import Lengths, Target, Workload
from benchmarks.null_process import ROOT
from benchmarks.result import SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.failover import Conditions, Fault, failover
from benchmarks.validity import Capacity
from sizing.acceptance_criteria import FailoverCriteria
from sizing.plan import Plan, PlannedModel

FALLBACK_QUESTION = "Do clients notice when every engine of a model is gone and its declared fallback answers?"
RATE_PER_SECOND = 2.0
SECONDS, STOP_AT_SECONDS, START_AT_SECONDS = 40.0, 8.0, 28.0
DATABASE = "litellm"
MANY = 2  # engines: one is broken, one is left
OUTPUT_TOKENS, UNSTREAMED_RATIO = 256, 0.2  # long enough to be under way when something breaks


@dataclass(frozen=True, kw_only=True)
class Breaking:
    """What a site gives to whoever breaks it."""

    plan: Plan
    hosts: Hosts
    database_host: str = ""
    program: str = ""  # breaks hosts; empty = only services, through Ansible

    @property
    def lab(self) -> Lab | None:
        """The arm that reaches hosts from outside, where there is one."""
        return Lab(program=ROOT / self.program) if self.program else None


def faults_of(model: PlannedModel, site: Breaking) -> Sequence[Fault]:
    """The faults that the failover suite injects for one model; none where no second engine could go on."""
    if len(model.deployments) < MANY:
        return ()
    if site.lab is not None:
        ground = Ground(lab=site.lab, plan=site.plan, model=model, database_host=site.database_host)
        return lab_faults(ground)
    return _service_faults(model, site)


def break_hosts(
    run: Runner,
    target: Target,
    *,
    model: PlannedModel,
    workload: Workload,
    agreed: FailoverCriteria,
    site: Breaking,
    capacity: Capacity | None,
    tell: Callable[[str], None],
) -> SuiteResult:
    """Every fault of one model, its texts held against two undisturbed runs."""
    output = Lengths(mean_tokens=min(OUTPUT_TOKENS, model.max_output_tokens), spread_ratio=0)
    conditions = Conditions(
        workload=workload.model_copy(
            update={"output": output, "ignore_eos": True, "unstreamed_ratio": UNSTREAMED_RATIO}
        ),
        rate_per_second=agreed.rate_per_second,
        allowed_failed_ratio=agreed.allowed_failed_ratio,
        agreed_recovery_seconds=agreed.recovery_seconds,
    )
    return failover(
        run,
        target,
        faults=faults_of(model, site),
        conditions=conditions,
        control=measured(run, conditions.load(target, name="failover")),
        books=books_of(site),
        capacity=capacity,
        tell=lambda found: tell(line_of(found)),
    )


def books_of(site: Breaking) -> Sequence[Book]:
    """Who counts besides the clients: read where hosts can be reached; the spend log is judged by the checklist."""
    if site.lab is None:
        return ()
    spend = gateway_spend(site.lab, database_host=site.database_host, database=DATABASE)
    return (relay_ledgers(site.lab, site.plan.gateway.hosts), spend)


def _service_faults(model: PlannedModel, site: Breaking) -> Sequence[Fault]:
    """An engine killed, an engine frozen, a relay killed."""
    engines = [(place.host, f"vllm@{place.engine}.service") for place in model.deployments]
    found = [
        _signalled(site, "engine killed (kill -9)", engines, ("SIGKILL", "all"), _start(model, site), CRASH_GAP_SECONDS)
    ]
    relay = next((one for one in site.plan.gateway.relays if one.model == model.name), None)
    if relay is not None:
        silence = relay.stall_seconds + AFTER_STALL_SECONDS
        thaw = _start(model, site, thawing=engines)
        found.append(_signalled(site, "engine stopped (SIGSTOP)", engines, ("SIGSTOP", "all"), thaw, silence))
        relays = [(host, f"relay@{relay.group}.service") for host in site.plan.gateway.hosts]
        found.append(_signalled(site, "relay killed (kill -9)", relays, ("SIGKILL", "main"), lambda: None, None))
    return found


def _start(model: PlannedModel, site: Breaking, *, thawing: Sequence[tuple[str, str]] = ()) -> Callable[[], None]:
    def start() -> None:
        for host, unit in thawing:
            _signal(site, host, unit, "SIGCONT", "all")
        site.hosts.play("engine_state.yml", {"engine_model": model.name, "engine_state": "started"})

    return start


def _signalled(  # noqa: PLR0917  a table: name, where, how, mend, silence
    site: Breaking,
    name: str,
    places: Sequence[tuple[str, str]],
    signal: tuple[str, str],
    mend: Callable[[], None],
    gap_seconds: float | None,
) -> Fault:
    turn = cycle(places)
    return Fault(
        name=name,
        inject=lambda: _signal(site, *next(turn), *signal),
        heal=mend,
        gap_seconds=gap_seconds,
        streams_may_break=gap_seconds is None,  # those on a relay that dies
    )


def _signal(site: Breaking, host: str, unit: str, name: str, whom: str) -> None:
    variables = {"signal_host": host, "signal_unit": unit, "signal_name": name, "signal_whom": whom}
    site.hosts.play("service_signal.yml", variables)


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
