"""The JavaScript unit tests, run by node's own runner against the built engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

UNIT_TESTS = sorted((Path(__file__).parent / "unit").glob("*.test.js"))


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.name)
def test_the_modules_do_what_they_say(file: Path, engine_directory: Path, node: str) -> None:
    environment = os.environ | {"PRISMA_ENGINE_DIRECTORY": str(engine_directory)}

    done = subprocess.run([node, "--test", str(file)], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
