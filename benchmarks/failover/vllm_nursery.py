"""vLLM nursery: imports vLLM once and forks an engine for each order, so that a killed one is back in seconds.

Runs with the Python of vLLM's environment. Orders come as lines of JSON on standard input (arguments, environment, log
file); the process id of each engine is the answer. An engine is what `vllm serve` would be: a session of its own with
API server, engine core and worker, except that these are forked where vLLM would import everything three times.
"""

import json
import multiprocessing
import os
import signal
import sys
import traceback
from importlib import import_module

IMPORTED = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.gemma3",
    "vllm.v1.structured_output.backend_xgrammar",
    "lmformatenforcer",
    "xgrammar",
)
WAITING = "vllm.distributed.device_communicators.shm_broadcast"
SPINNING_SECONDS = 0.001
FORKING = ("vllm.v1.executor.multiproc_executor", "vllm.v1.engine.utils")


def main() -> None:
    """Serves orders until standard input closes."""
    for name in IMPORTED:
        import_module(name)
    context = multiprocessing.get_context("fork")
    for name in FORKING:
        vars(import_module(name))["get_mp_context"] = lambda: context
    # Who waits for a message sleeps after a millisecond instead of a second: two engines have four processes that wait,
    # and on two cores these would take from each other what they wait for.
    condition = vars(import_module(WAITING))["SpinCondition"]
    condition.__init__.__defaults__ = (SPINNING_SECONDS,)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a killed engine
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_an_engine(order)
        print(pid, flush=True)


def _become_an_engine(order: dict[str, object]) -> None:
    """Never returns."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update({str(name): str(value) for name, value in dict(order["environment"]).items()})  # type: ignore[call-overload]
    sys.argv = [str(word) for word in list(order["arguments"])]  # type: ignore[call-overload]
    status = 1
    try:
        import_module("vllm.entrypoints.cli.main").main()
        status = 0
    except BaseException:
        traceback.print_exc()  # into its log; nobody else will say it
        raise
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
