"""What the live tier needs, or the reason why it skips."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sizing.errors import SizingError
from sizing.hardware import Hardware
from sizing.probe import probe


@pytest.fixture(scope="session")
def hardware() -> Hardware:
    """This host as the probe measures it."""
    try:
        measured, _ = probe(host="live", accelerator="cuda")
    except SizingError as error:
        pytest.skip(f"no GPU to measure: {error}")
    return measured


@pytest.fixture(scope="session")
def vllm_python(hardware: Hardware) -> Path:
    """A Python that imports vLLM and sees the GPU."""
    python = Path(os.environ.get("LLM_APPLIANCE_VLLM_PYTHON", sys.executable))
    if shutil.which(str(python)) is None:
        pytest.skip(f"LLM_APPLIANCE_VLLM_PYTHON={python} is no program")
    asked = subprocess.run(
        [str(python), "-c", "import vllm, torch; assert torch.cuda.is_available(); print(vllm.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{python} has no vLLM that sees the {hardware.gpus[0].name}: {reason}")
    return python
