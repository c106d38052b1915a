"""What reading a stream costs a gateway's process, by way to the engine: straight, and through a relay.

`PY_SPY=... .venv/bin/python -m tests.gateway.measure_stream FOLDER` (it judges nothing). The small sister of
measure_cost.py: LiteLLM's library alone (HTTP client, OpenAI's client, stream wrapper), no server, database or keys,
so that ten CPU seconds are enough. `python -m tools.gateway_profile FOLDER` draws where they went.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.fault_engine.process import FaultProcess
from tests.gateway.cost_variations import JOINED_WHEN_BUSY
from tests.gateway.processes import Program, start, virtual_environment
from tests.prisma_engine.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
STREAMS, TOKENS, ITL_MS, ROUNDS = 24, 60, 20, 2
KEY = "a-key-of-the-engines"


def _relay(folder: Path, label: str, engine: str, settings: dict[str, float]) -> tuple[Program, str]:
    port = free_port()
    config = {
        "schema_version": 1, "group": label, "served_model_name": "tiny", "port": port, "max_model_len": 4096,
        "replicas": [{"id": "e1", "api_base": f"{engine}/v1"}], "ledger_directory": str(folder / label), **settings,
    }  # fmt: skip
    path = folder / f"{label}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "relay", "--config", str(path)]
    environment = os.environ | {"VLLM_API_KEY": KEY}
    program = start(command, log=path.with_suffix(".log"), environment=environment, directory=ROOT)
    return program, f"http://127.0.0.1:{port}/v1"


def main() -> None:
    """Engine, relays, reader."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pace = ("--ttft-ms", "20", "--itl-ms", str(ITL_MS), "--eos-every", "0", "--served-model-name", "tiny")
    engine = FaultProcess.start(*pace, key=KEY, name="e1")
    relays: list[Program] = []
    try:
        ways = {"straight": {"name": "engine", "api_base": f"{engine.address}/v1"}}
        for label, name, settings in (
            ("apart", "relay, every piece alone", {}),
            ("busy", "relay, joined when busy", JOINED_WHEN_BUSY),
        ):
            program, address = _relay(folder, label, engine.address, settings)
            relays.append(program)
            ways[label] = {"name": name, "api_base": address}
        given = {
            "ways": ways, "folder": str(folder), "streams": STREAMS, "tokens": TOKENS, "itl_ms": ITL_MS,
            "rounds": ROUNDS, "looked_at": ["straight", "busy"], "py_spy": os.environ.get("PY_SPY", ""),
        }  # fmt: skip
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "VLLM_API_KEY": KEY}
        command = [str(virtual_environment() / "bin" / "python"), str(Path(__file__).with_name("stream_reader.py"))]
        subprocess.run(command, input=json.dumps(given), text=True, check=True, env=os.environ | quiet)
    finally:
        for program in relays:
            program.end()
        engine.close()


if __name__ == "__main__":
    main()
