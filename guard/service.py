"""The service: a few processes that look at texts, one question at a time each, and a parent that keeps them alive.

Everything heavy is loaded once, by the parent, and shared by its children. A child that takes longer than its question
allows is ended by an alarm of the kernel's, whatever it was doing (a pattern that never ends holds Python's lock); the
gateway sees its connection close, and the parent starts another one.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from guard import wire
from guard.detectors import Detector, detector
from guard.errors import GuardError
from guard.rules import Rules

# A gateway sends its question at once.
RECEIVE_SECONDS = 10.0
BACKLOG = 1024
FIRST_PASSED_SOCKET = 3
RESPAWN_PAUSE_SECONDS = 0.05


def load(rules: Rules) -> dict[str, Detector]:
    """A detector for each rule, each tried once, so that what is slow the first time is over."""
    found = {rule.name: detector(rule) for rule in rules.rules}
    for name, find in found.items():
        try:
            find("user", "")
            find("user", "Nothing is here, 아무것도 없다.")
        except Exception as error:
            raise GuardError(
                f"guardrail {name}: it fails on a harmless text: {type(error).__name__}: {error}"
            ) from error
    return found


def serve(rules: Rules) -> NoReturn:
    """Until SIGTERM."""
    detectors = load(rules)
    listening = _listening(rules.socket)
    gc.collect()
    gc.freeze()
    children: set[int] = set()

    parent = os.getpid()

    def end(*_: object) -> None:
        for pid in children if os.getpid() == parent else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(0)  # nothing is left to write, and taking everything apart takes long

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while len(children) < rules.processes:
        children.add(_child(listening, detectors))
    _tell_systemd("READY=1")
    while True:
        pid, status = os.wait()
        children.discard(pid)
        reason = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        print(f"guard: a process that looked ended ({reason}); another one starts", file=sys.stderr, flush=True)
        time.sleep(RESPAWN_PAUSE_SECONDS)
        children.add(_child(listening, detectors))


def _listening(path: Path) -> socket.socket:
    """systemd's socket where it holds one, so that a restart refuses nobody; else one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=FIRST_PASSED_SOCKET)
    path.unlink(missing_ok=True)
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(path))
    path.chmod(0o660)
    own.listen(BACKLOG)
    return own


def _child(listening: socket.socket, detectors: Mapping[str, Detector]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        listening.settimeout(1.0)
        while os.getppid() == parent:
            with suppress(TimeoutError):
                connection, _ = listening.accept()
                with connection:
                    _answer(connection, detectors)
    finally:
        os._exit(1)


def _answer(connection: socket.socket, detectors: Mapping[str, Detector]) -> None:
    connection.settimeout(RECEIVE_SECONDS)
    question = wire.receive(connection)
    if question is None or wire.has_gone(connection):  # it waited too long for its turn
        return
    signal.setitimer(signal.ITIMER_REAL, float(question["seconds"]))
    try:
        answer = look(question, detectors)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    with suppress(OSError):  # the gateway has given up
        connection.sendall(wire.packed(answer))


def look(question: Mapping[str, Any], detectors: Mapping[str, Detector]) -> dict[str, Any]:
    """The answer to one question. What failed is named by its kind: its words may quote the text."""
    find = detectors.get(question["rule"])
    if find is None:
        return {"failed": "the service does not know it; was it restarted?"}
    try:
        found = [find(role, text) for role, text in question["texts"]]
    except Exception as error:  # noqa: BLE001  (whatever a detector does wrong is its failure, declared open or closed)
        print(f"guard: {question['rule']} failed: {type(error).__name__}", file=sys.stderr, flush=True)
        return {"failed": f"it failed with {type(error).__name__}"}
    return {"found": [[(one.start, one.end, one.label, one.instead) for one in spans] for spans in found]}


def _tell_systemd(words: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(words.encode(), address)


def try_out(rules: Rules, name: str, text: str) -> list[tuple[int, int, str]]:
    """What one rule finds in one text, without the service."""
    return [(one.start, one.end, one.label) for one in detector(rules.named(name))("user", text)]
