"""Loopback: engines, a relay before them, and LiteLLM's defaults beside it, all of them processes of this machine."""

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.failover.books import Book
from benchmarks.failover.faults import Trial, faults_of
from benchmarks.failover.litellm_process import LiteLlmProcess
from benchmarks.failover.litellm_settings import defaults, of_the_appliance
from benchmarks.failover.relay_process import RelayProcess
from benchmarks.failover.site import Engine, Site, process_meters
from benchmarks.failover.vllm_process import VllmProcess, VllmSettings
from benchmarks.fault_engine.process import FaultProcess
from benchmarks.load import Target
from benchmarks.suites.failover import APPLIANCE, Fault

DEFAULTS = "LiteLLM's defaults"
FAULT_MODEL, FAULT_MODEL_LEN = "fault", 8192
KEY_VARIABLE = "LLM_LOOPBACK_KEY"


@contextmanager
def fault_engines(count: int, *, key: str, pace: Mapping[str, float]) -> Iterator[list[Engine]]:
    """That many equal fault engines."""
    options = [word for name, value in pace.items() for word in (f"--{name.replace('_', '-')}", f"{value:g}")]
    with ExitStack() as stack:
        yield [
            stack.enter_context(FaultProcess.start(*options, key=key, name=f"engine-{number}"))
            for number in range(1, count + 1)
        ]


@contextmanager
def vllm_engines(settings: VllmSettings, cores: Sequence[str]) -> Iterator[list[Engine]]:
    """One real engine per entry of `cores`, started together."""
    with ExitStack() as stack:
        engines = [
            stack.enter_context(VllmProcess(f"engine-{number}", settings, cores=bound))
            for number, bound in enumerate(cores, start=1)
        ]
        for engine in engines:
            engine.ready()
        yield list(engines)


@contextmanager
def relay_site(
    directory: Path,
    engines: Sequence[Engine],
    *,
    model: str,
    max_model_len: int,
    key: str,
    trial: Trial,
    litellm: Path | None = None,
) -> Iterator[Site]:
    """The appliance's arrangement before these engines; with LiteLLM before the relay where its program is given."""
    replicas = {engine.name: engine.address for engine in engines}
    tuning = {"stall_seconds": trial.stall_seconds}
    with ExitStack() as stack:
        relay = stack.enter_context(
            RelayProcess(directory, replicas, model=model, key=key, max_model_len=max_model_len, tuning=tuning)
        )
        relay.ready()
        address = relay.address
        if litellm is not None:
            settings = of_the_appliance(relay.address, model=model, max_model_len=max_model_len)
            gateway = stack.enter_context(LiteLlmProcess(litellm, directory / "gateway", settings, key=key))
            gateway.ready()
            address = gateway.address

        def ejected(engine: Engine) -> bool:
            return relay.state_of(engine.name) == "ejected"

        def outstanding(engine: Engine) -> int:
            return relay.outstanding_at(engine.name)

        lost = Fault(name="relay killed (kill -9)", inject=relay.kill, streams_may_break=True, repeats=trial.repeats)
        yield Site(
            name=APPLIANCE,
            target=Target(base_url=f"{address}/v1", model=model, key_variable=KEY_VARIABLE),
            faults=[*faults_of(engines, dataclasses.replace(trial, ejected=ejected, outstanding=outstanding)), lost],
            books=[Book(name="relay ledger", read=relay.entries)],
            meters=lambda: process_meters("relay", lambda: relay.process),
        )


@contextmanager
def litellm_site(
    program: Path, directory: Path, engines: Sequence[Engine], *, model: str, key: str, trial: Trial
) -> Iterator[Site]:
    """What stands beside: LiteLLM with its defaults before the same engines."""
    with LiteLlmProcess(program, directory, defaults(engines, model=model), key=key) as gateway:
        gateway.ready()
        yield Site(
            name=DEFAULTS,
            target=Target(base_url=f"{gateway.address}/v1", model=model, key_variable=KEY_VARIABLE),
            faults=faults_of(engines, trial),
        )


def fresh_key() -> str:
    """A key that lives as long as the run."""
    return secrets.token_urlsafe(24)
