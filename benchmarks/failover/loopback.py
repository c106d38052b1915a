"""Loopback: one relay before fault engines, all of them processes of this machine."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.failover.books import Book
from benchmarks.failover.faults import signal_faults, told_faults
from benchmarks.failover.relay_process import RelayProcess
from benchmarks.failover.site import Engine, Site, process_meters
from benchmarks.fault_engine.process import FaultControl, FaultProcess
from benchmarks.load import Target
from benchmarks.suites.failover import APPLIANCE, Fault

MODEL = "fault"
MAX_MODEL_LEN = 8192
KEY_VARIABLE = "LLM_API_KEY"


class LocalFaultEngine:
    """A fault engine as a victim."""

    def __init__(self, name: str, process: FaultProcess) -> None:
        self.name, self._process, self.address = name, process, process.address
        self.kill, self.pause, self.proceed, self.restart = (
            process.kill, process.pause, process.proceed, process.restart,
        )  # fmt: skip

    @property
    def control(self) -> FaultControl:
        """How it is told to misbehave."""
        return self._process.control


@contextmanager
def fault_engines(count: int, *, key: str, pace: Mapping[str, float]) -> Iterator[list[LocalFaultEngine]]:
    """That many equal engines."""
    options = [word for name, value in pace.items() for word in (f"--{name.replace('_', '-')}", f"{value:g}")]
    with ExitStack() as stack:
        yield [
            LocalFaultEngine(name, stack.enter_context(FaultProcess.start(*options, key=key, name=name)))
            for name in (f"engine-{number}" for number in range(1, count + 1))
        ]


@contextmanager
def relay_site(
    directory: Path, engines: list[LocalFaultEngine], *, key: str, stall_seconds: float, repeats: int
) -> Iterator[Site]:
    """The appliance's arrangement."""
    replicas = {engine.name: engine.address for engine in engines}
    tuning = {"stall_seconds": stall_seconds}
    with RelayProcess(directory, replicas, model=MODEL, key=key, max_model_len=MAX_MODEL_LEN, tuning=tuning) as relay:
        relay.ready()

        def ejected(engine: Engine) -> bool:
            return relay.state_of(engine.name) == "ejected"

        victims: list[Engine] = list(engines)
        by_name = {engine.name: engine for engine in engines}
        faults = [
            *signal_faults(victims, ejected=ejected, stall_seconds=stall_seconds, repeats=repeats),
            *told_faults(
                victims,
                lambda engine: by_name[engine.name].control,
                ejected=ejected,
                stall_seconds=stall_seconds,
                repeats=repeats,
            ),
            Fault(name="relay killed (kill -9)", inject=relay.kill, streams_may_break=True, repeats=repeats),
        ]
        yield Site(
            name=APPLIANCE,
            target=Target(base_url=f"{relay.address}/v1", model=MODEL, key_variable=KEY_VARIABLE),
            faults=faults,
            books=[Book(name="relay ledger", read=relay.entries)],
            meters=lambda: process_meters("relay", lambda: relay.process),
            character={"max_model_len": MAX_MODEL_LEN},
        )


def fresh_key() -> str:
    """A key that lives as long as the run."""
    return secrets.token_urlsafe(24)
