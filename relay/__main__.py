"""Command line: `python -m relay --config FILE` serves until SIGTERM; `--check` only reads the configuration."""

import argparse
import asyncio
import os
import resource
import sys
from pathlib import Path

import uvloop

from relay.config import ConfigError, load
from relay.serving import serve

KEY_VARIABLE = "VLLM_API_KEY"
USAGE = 2


def main() -> int:
    """Runs the relay. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m relay", description="One model's requests, carried to its engines."
    )
    parser.add_argument("--config", type=Path, required=True, help="the relay's YAML file")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and end")
    options = parser.parse_args()
    try:
        config = load(options.config)
    except ConfigError as error:
        print(f"relay: {error}", file=sys.stderr)
        return USAGE
    if options.check:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, key=os.environ.get(KEY_VARIABLE, "")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
