"""Locust user: how Locust, with its web page, headless, with `--processes N` or on many machines, carries out a Load.

The master (or the only process) turns the options into one Load and hands every process its share with the same
starting instant. Each process's Driver then keeps the schedule; Locust contributes the web page, the distribution and
the live table. Locust's user count is *not* the load: start one user per process, `--rate` is the load. The verdict
comes from raw histories.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"
# Locust's event hooks carry no types.
import logging
import os
import platform
import time
import uuid
from pathlib import Path
from typing import Any, cast

import gevent
from gevent.event import Event
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_MISSING, LocalRunner, MasterRunner, WorkerRunner

from benchmarks.calibration_process import calibrated
from benchmarks.load import Load
from benchmarks.locust_options import add_options, load_from, objective_from
from benchmarks.locust_share import PART_BYTES, Share, carry_out
from benchmarks.locust_verdict import conclude
from benchmarks.validity import Capacity
from sizing.errors import SizingError

LEAD_SECONDS = 1.0  # from the message to the first possible arrival, so that all processes have it in time
START, DONE, PART = "benchmark_start", "benchmark_done", "benchmark_part"
logger = logging.getLogger("benchmarks")


class StreamingUser(User):
    """Stands for this process in Locust's table; the streams are the Driver's."""

    wait_time = constant(1)

    @task
    def stay(self) -> None:
        """Until the run is over."""
        _state.over.wait()


class State:
    """What this process knows of the current run."""

    def __init__(self) -> None:
        self.over = Event()
        self.directory = Path()
        self.load: Load | None = None
        self.capacity: Capacity | None = None
        self.awaited: set[str] = set()  # processes whose share is not carried out yet
        self.driver: Any = None


_state = State()


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add_options(parser)


@events.init.add_listener
def _listen(environment: Environment, **_: Any) -> None:
    runner: Any = environment.runner
    if isinstance(runner, WorkerRunner | LocalRunner):
        runner.register_message(START, _on_start, concurrent=True)
    if isinstance(runner, MasterRunner | LocalRunner):
        runner.register_message(DONE, _on_done, concurrent=True)
        runner.register_message(PART, _on_part)


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    """On the master: fix the load, calibrate, hand out the shares."""
    _state.over.clear()
    runner: Any = environment.runner
    if isinstance(runner, WorkerRunner):
        return
    try:
        load, options = load_from(environment), cast(Any, environment.parsed_options)
        _state.capacity = _calibrated() if options.calibrate else None
    except SizingError as error:
        logger.error(error)  # noqa: TRY400  the user's mistake needs its line, not our stack
        environment.process_exit_code = error.exit_code
        gevent.spawn_later(0, runner.quit)
        return
    _state.load, _state.directory = load, Path(options.histories)
    clients = [client.id for client in runner.clients.ready] if isinstance(runner, MasterRunner) else ["local"]
    _state.awaited = set(clients)
    message = {
        "load": load.model_dump_json(),
        "run_id": uuid.uuid4().hex[:8],
        "start_at": time.time() + LEAD_SECONDS,
        "directory": str(_state.directory.resolve()),
        "host": platform.node(),
        "count": len(clients),
    }
    logger.info("run %s: %s, seed %d", message["run_id"], load.name, load.seed)
    for index, client in enumerate(clients):
        share = {**message, "index": index}
        if isinstance(runner, MasterRunner):
            runner.send_message(START, share, client)
        else:
            gevent.spawn(_on_start, environment, _Message(share))
    if isinstance(runner, MasterRunner):
        gevent.spawn(_watch, environment, str(message["run_id"]))


@events.test_stop.add_listener
def _stop(**_: Any) -> None:
    """Stopped early, by --run-time or by hand: what is in flight is recorded as abandoned."""
    if _state.driver is not None:
        _state.driver.stop()
    _state.over.set()


class _Message:
    """What a runner without a network hands to its own listeners."""

    node_id = "local"

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data


def _watch(environment: Environment, run_id: str) -> None:
    """On the master: a process that died is waited for no longer; its history has no trailer, which says the rest."""
    clients = cast(Any, environment.runner).clients
    while _state.awaited:
        gevent.sleep(1)
        for client in sorted(_state.awaited):
            known = clients.get(client)
            if known is None or known.state == STATE_MISSING:
                logger.error("load process %s died", client)
                _settle(environment, client, run_id=run_id)


def _on_start(environment: Environment, msg: Any) -> None:
    """In every process that makes load."""
    share = Share(**msg.data)

    def fire(kind: str, milliseconds: float, tokens: int, failure: str) -> None:
        environment.events.request.fire(
            request_type="stream",
            name=kind,
            response_time=milliseconds,
            response_length=tokens,
            exception=RuntimeError(failure) if failure else None,
            context={},
        )

    def have(driver: Any) -> None:
        _state.driver = driver

    path, failure = carry_out(share, fire=fire, have=have)
    _state.driver = None
    if path is not None and share.host != platform.node():
        with path.open("rb") as file:
            while part := file.read(PART_BYTES):
                cast(Any, environment.runner).send_message(PART, {"name": path.name, "bytes": part})
    outcome = {"path": str(path) if path else "", "failure": failure, "run_id": share.run_id}
    if isinstance(environment.runner, WorkerRunner):
        cast(Any, environment.runner).send_message(DONE, outcome)
    else:
        _on_done(environment, _Message(outcome))


def _on_part(environment: Environment, msg: Any) -> None:  # noqa: ARG001  Locust calls by name
    """A piece of a history from another machine."""
    _state.directory.mkdir(parents=True, exist_ok=True)
    with (_state.directory / Path(msg.data["name"]).name).open("ab") as file:
        file.write(msg.data["bytes"])


def _on_done(environment: Environment, msg: Any) -> None:
    """On the master: a share is carried out."""
    if msg.data["failure"]:
        logger.error(msg.data["failure"])
        environment.process_exit_code = 2
    _settle(environment, msg.node_id, run_id=msg.data["run_id"])


def _settle(environment: Environment, client: str, *, run_id: str) -> None:
    """Once every share is carried out or given up, judge the whole and leave (or wait for the web page)."""
    if client not in _state.awaited:
        return
    _state.awaited.remove(client)
    if _state.awaited:
        return
    if not environment.process_exit_code:
        environment.process_exit_code = conclude(
            _state.directory, run_id=run_id, capacity=_state.capacity, objective=objective_from(environment)
        )
    _state.over.set()
    runner: Any = environment.runner
    if environment.web_ui is None:
        runner.quit()
    else:
        runner.stop()


def _calibrated() -> Capacity:
    """In a process of its own: the master's hub must go on turning, and its memory must not be measured."""
    logger.info("calibrating against the null server (load average %.1f)", os.getloadavg()[0])
    found = calibrated()
    logger.info(
        "one process here holds %d streams and %.0f chunks/s; a run may use half of that",
        found.streams,
        found.events_per_second,
    )
    return found
