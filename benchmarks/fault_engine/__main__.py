"""Command line of the fault engine."""

import argparse
import asyncio
import os
import resource
import signal
import sys
from dataclasses import fields

from benchmarks.fault_engine.connection import Connection
from benchmarks.fault_engine.engine import Character, Engine
from benchmarks.fault_engine.faults import NAMES

EPILOG = """control endpoint, on the same port and with the same key:
  GET /control                      counters, what runs, the fault that is on
  POST /control/fault {"name": NAME, "after_tokens": 0, "requests": 0, "factor": 10}
  DELETE /control/fault             heals; what was frozen goes on
  POST /control/character {...}     any of the pacing options above, with underscores
  GET /control/requests             what was generated for whom

faults:
""" + "\n".join(f"  {name:12} {meaning}" for name, meaning in NAMES.items())


def main() -> None:
    """Runs until SIGTERM or, if told so, until standard input closes; prints the port as its only line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fault_engine",
        description="vLLM's HTTP surface with a computable model, and faults on demand.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen elsewhere than on loopback: for lab hosts only")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--id", default="fault-engine", help="its name in /control")
    parser.add_argument("--served-model-name", default="fault")
    parser.add_argument("--key-variable", default="VLLM_API_KEY", help="environment variable with the bearer key")
    parser.add_argument("--follow-stdin", action="store_true", help="end when standard input closes")
    for item in fields(Character):
        kind = type(item.default)
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=item.default, metavar=kind.__name__)
    options = parser.parse_args()
    character = Character(**{item.name: getattr(options, item.name) for item in fields(Character)})
    key = os.environ.get(options.key_variable, "")
    engine = Engine(character, name=options.id, served=options.served_model_name, key=key)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def forever() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        loop.add_signal_handler(signal.SIGINT, over.set)
        if options.follow_stdin:
            loop.add_reader(sys.stdin, over.set)
        listener = await loop.create_server(lambda: Connection(engine), options.host, options.port, backlog=4096)
        print(listener.sockets[0].getsockname()[1], flush=True)
        await over.wait()

    asyncio.run(forever())


if __name__ == "__main__":
    main()
