"""Run: one acceptance of one living site, from the agreement to the sealed bundle, in the order in which it happens."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.accept import agreed_suites, bundle, faults
from benchmarks.accept.addresses import addresses
from benchmarks.accept.agreed_suites import ENGINE_KEY_VARIABLE, FAULT_KEY_VARIABLE, KEY_VARIABLE, Means
from benchmarks.accept.budget import spend_a_budget
from benchmarks.accept.calls import CallBook
from benchmarks.accept.evidence import Seen, judge_items
from benchmarks.accept.forecasts import forecasts
from benchmarks.accept.hosts import Hosts, Inventory
from benchmarks.accept.keys import Keys
from benchmarks.accept.loopback_failover import SUBJECT as ON_LOOPBACK
from benchmarks.accept.loopback_failover import loopback_failover
from benchmarks.accept.predictions import predictions
from benchmarks.accept.versions import machines, versions
from benchmarks.accept.witness import Observer
from benchmarks.acceptance import Acceptance, Verification, checklist
from benchmarks.calibrate import STEPS, Step, calibrate
from benchmarks.errors import BadLoad
from benchmarks.load import Load
from benchmarks.result import SuiteResult
from benchmarks.running import Runner, inline_runner, locust_runner
from benchmarks.validity import Capacity
from sizing import verify
from sizing.acceptance_criteria import AcceptanceCriteria, SuiteName
from sizing.calibration import Calibration
from sizing.errors import SizingError
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.report import Report
from sizing.site import Site, check_freshness, load_plan, load_site, plan_path

QUICK_STREAMS, STREAMS = 250, 1000
SPARE_HOURS = 6
BUDGET_CHAT_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the operator asked for."""

    site: Path
    suites: tuple[SuiteName, ...] = ()
    quick: bool = False
    disturb: bool = False
    gateway_url: str | None = None
    engine_url: str | None = None
    processes: int = 1
    output: Path | None = None
    key: Path | None = None
    calibration: Path | None = None


@dataclass(kw_only=True)
class AcceptanceRun:
    """The state of one run. `tell` speaks to the person who waits."""

    wanted: Wanted
    inventory: Inventory
    tell: Callable[[str], None]

    def carry_out(self) -> tuple[Path, Acceptance]:
        """Verify, load, look, judge, write. Raises before any load where the site, the plan or the key is no good."""
        site, plan = load_site(self.wanted.site), load_plan(self.wanted.site)
        check_freshness(site, plan)
        key = bundle.signing_key(self.wanted.key)
        calibration = Calibration.load(self.wanted.calibration) if self.wanted.calibration else None
        agreed = site.request.acceptance or AcceptanceCriteria()
        unknown = [name for name in self.wanted.suites if name not in agreed.suites]
        if unknown:
            raise BadLoad(f"{', '.join(unknown)} was not agreed; acceptance.suites holds {', '.join(agreed.suites)}")
        directory = bundle.new_bundle(plan.site, self.wanted.output)
        raw = directory / bundle.RAW
        shutil.copy(plan_path(self.wanted.site), directory / "plan.json")
        shutil.copy(self.wanted.site / "request.yml", directory / "request.yml")
        self.tell(f"everything of this run lands in {directory}")
        self.tell("verify: is the site what the plan says?")
        report = verify.run(self.wanted.site, observation=None, report_directory=raw / "verify")
        self.tell(f"verify: {len(report.passed)} of {len(report.checks)} checks hold")
        observer = Observer(hosts=Hosts(site=self.wanted.site, log=raw / "ansible.log"), directory=raw)
        began = observer.begin()
        seen = self._load(site, plan, agreed, observer, raw)
        speeds, notes = forecasts(site, plan, agreed, seen.suites, calibration=calibration)
        acceptance = Acceptance(
            site=plan.site,
            accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            plan_digest=plan.digest(),
            request_digest=plan.request_digest,
            criteria_source=_source(site),
            criteria=agreed,
            gateway_url=seen.gateway_url,
            quick=self.wanted.quick,
            versions=versions(site, Observation.load(raw / "verify" / "observation.json"), began),
            machines=machines(site, plan, began),
            verification=_verification(report),
            predictions=(*predictions(plan, report), *speeds),
            suites=tuple(seen.suites),
            checklist=checklist(judge_items(seen)),
            notes=notes,
        )
        bundle.write(directory, acceptance, key=key)
        return directory, acceptance

    def _load(self, site: Site, plan: Plan, agreed: AcceptanceCriteria, observer: Observer, raw: Path) -> Seen:
        where = addresses(plan, self.inventory, named_url=self.wanted.gateway_url, directory=raw)
        gateway_url = where.clients_url
        book, alias = CallBook(), f"accept-{datetime.now(UTC).strftime('%Y%m%dt%H%M%S')}"
        capacity = self._calibrated()
        hours = SPARE_HOURS + int(agreed.soak.seconds / 3600) * ("soak" in agreed.suites)
        with Keys(where.keys_url, self.inventory.master_key, lifetime_hours=hours) as keys:
            key = keys.make(alias, models=tuple(model.name for model in plan.models))
            own = keys.make(f"{alias}-faults", models=tuple(model.name for model in plan.models))
            os.environ |= {KEY_VARIABLE: key.secret, FAULT_KEY_VARIABLE: own.secret}
            os.environ[ENGINE_KEY_VARIABLE] = self.inventory.engine_key

            def noted(runner: Runner) -> Runner:
                return book.watching(runner, _secret_of)

            breaking = faults.Breaking(
                plan=plan,
                hosts=observer.hosts,
                database_host=self.inventory.database_host,
                program=self.inventory.fault_program,
            )
            means = Means(
                light_runner=lambda directory: noted(inline_runner(directory)),
                load_runner=lambda directory: noted(locust_runner(directory, processes=self.wanted.processes)),
                gateway_url=gateway_url,
                ca_file=where.ca_file,
                engine_url=self.wanted.engine_url,
                model_store=site.model_store,
                raw=raw,
                capacity=capacity,
                gateway_workers=plan.gateway.workers,
                reached_an_engine=observer.reached_an_engine,
                memory_of_services=observer.memory_of_services,
                breaking=breaking,
                tell=self.tell,
            )
            suites = self._suites(plan, agreed, means)
            exercised = self._fallbacks(plan, means, observer.hosts) if self.wanted.disturb else None
            self.tell("budget: is a key that has spent its budget refused?")
            priced = [model for model in plan.models if model.input_cost_per_token or model.output_cost_per_token]
            budget = None
            if priced:
                model, ca_file = priced[0], where.ca_file
                chat = partial(
                    book.chat, gateway_url, model=model.name, output_tokens=BUDGET_CHAT_TOKENS, ca_file=ca_file
                )
                budget = spend_a_budget(chat, keys, model=model, secret=key.secret, alias=f"{alias}-budget")
            hashes = sorted({call.key_hash for call in book.calls if call.base_url == gateway_url})
            booked = sum(call.prompt_tokens is not None for call in book.calls if call.base_url == gateway_url)
            self.tell("reading journals and the spend log (the gateway books in batches)")
            ended = observer.end(key_hashes=hashes, awaited_count=booked)
        (raw / "calls.jsonl").write_text("".join(call.model_dump_json() + "\n" for call in book.calls), "utf-8")
        return Seen(
            plan=plan,
            gateway_url=gateway_url,
            calls=book.calls,
            journals=ended.journals,
            spend=ended.spend,
            suites=(*suites, *(exercised or ())),
            fallbacks=exercised,
            budget=budget,
        )

    def _suites(self, plan: Plan, agreed: AcceptanceCriteria, means: Means) -> list[SuiteResult]:
        used = agreed_suites.shortened(agreed) if self.wanted.quick else agreed
        found: list[SuiteResult] = []
        for name in agreed.suites:
            reason = self._why_not(name)
            if reason:
                found.append(agreed_suites.left_out(name, reason))
                continue
            if name == "failover":
                found.append(_to_its_end(name, ON_LOOPBACK, partial(self._loopback_failover, used, means)))
                if not self.wanted.disturb:
                    reason = "left out on the site's own hosts: it breaks things there, so it runs only with --disturb"
                    found.append(agreed_suites.left_out(name, reason, subject="the site's hosts"))
                    continue
            for model in agreed_suites.models_of(name, plan, used):
                title = f"{name.replace('_', ' ')} on {model.name}"
                self.tell(title)
                carry_out = partial(agreed_suites.run_suite, name, model, used, means)
                result = _to_its_end(name, model.name, carry_out)
                self.tell(f"{title}: {result.verdict}, {result.duration_seconds:.0f} s")
                found.append(result)
        return found

    def _loopback_failover(self, agreed: AcceptanceCriteria, means: Means) -> SuiteResult:
        self.tell(f"failover on {ON_LOOPBACK}: the relay, and LiteLLM's defaults beside it, before engines that break")
        directory = means.raw / "histories" / "failover-loopback"
        result = loopback_failover(directory, agreed.failover, capacity=means.capacity, tell=self.tell)
        self.tell(f"failover on {ON_LOOPBACK}: {result.verdict}, {result.duration_seconds:.0f} s")
        prefix = directory.relative_to(means.raw.parent)
        return result.model_copy(update={"histories": tuple(f"{prefix}/{name}" for name in result.histories)})

    def _why_not(self, name: SuiteName) -> str:
        if self.wanted.suites and name not in self.wanted.suites:
            return "left out by --suite"
        if self.wanted.quick and (name == "failover" or not (self.wanted.suites or name in agreed_suites.QUICK_SUITES)):
            return "left out by --quick"
        return ""

    def _fallbacks(self, plan: Plan, means: Means, hosts: Hosts) -> list[SuiteResult]:
        found: list[SuiteResult] = []
        for model in plan.models:
            if model.fallbacks:
                self.tell(f"fallback: stopping every engine of {model.name} under load, and starting them again")
                directory = means.raw / "histories" / f"fallback-{len(found)}"
                target = agreed_suites.target_of(model, means)
                runner = means.load_runner(directory)
                stop_and_start = partial(faults.exercise_fallback, runner, target, model=model, hosts=hosts)
                result = _to_its_end("fallback", model.name, stop_and_start)
                self.tell(f"fallback of {model.name}: {result.verdict}, {result.duration_seconds:.0f} s")
                found.append(result)
        return found

    def _calibrated(self) -> Capacity:
        upper = QUICK_STREAMS if self.wanted.quick else STREAMS

        def tell(step: Step) -> None:
            verdict = "held" if step.held else "not held"
            self.tell(f"calibrate: {step.streams} streams {verdict}, {step.cpu_ratio:.0%} of a core")

        found = calibrate(steps=[step for step in STEPS if step <= upper], tell=tell)
        return found.capacity


def _to_its_end(name: str, subject: str, carry_out: Callable[[], SuiteResult]) -> SuiteResult:
    """The result; also where something got in the way, so that nothing of the other suites is lost."""
    try:
        return carry_out()
    except (SizingError, OSError) as error:
        return agreed_suites.broken_off(name, error, subject=subject)


def _secret_of(load: Load) -> str:
    return os.environ.get(load.target.key_variable, "")


def _source(site: Site) -> str:
    if site.request.acceptance is None:
        return "the defaults: request.yml states no criteria of its own"
    return "request.yml, under `acceptance`; the plan was made from this request, so they are older than the run"


def _verification(report: Report) -> Verification:
    return Verification(
        passed=not report.failed,
        checks_count=len(report.checks),
        failed=tuple(f"{check.subject}: {check.statement}" for check in report.failed),
    )
