"""The hook under LiteLLM's own dispatcher, with its own classes: every API, streams, refusals. No server is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import processes
from tests.guardrails.guard_service import ROOT, running_guard

pytestmark = pytest.mark.lab
OWN = """
def find(text, role):
    at = text.find("secret")
    return [(at, at + 6, "SECRET")] if at >= 0 else []
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("through")
    (directory / "own.py").write_text(OWN)
    both = {"directions": ["in", "out"], "timeout_seconds": 60}
    rules = [
        {"name": "own", "kind": "custom", "file": str(directory / "own.py"), **both},
        {"name": "heron", "kind": "words", "words": ["heron"], "action": "block", **both},
    ]
    try:
        python = processes.virtual_environment() / "bin" / "python"
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    with running_guard(directory, rules, python=Path(sys.executable)) as guard:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": f"{ROOT / 'roles/gateway/files'}:{ROOT}",
            "GUARDRAILS_CONFIG": str(guard.config),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        program = [str(python), str(ROOT / "tests/guardrails/through_litellm.py")]
        ran = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_every_kind_of_request_leaves_masked_and_is_kept_masked(told: Any) -> None:
    assert 5 == len(told["requests"])
    for engine, kept in told["requests"].values():
        assert "my <SECRET>" in json.dumps(engine)
        assert "my <SECRET>" in json.dumps(kept)
        assert "my secret" not in json.dumps([engine, kept])


def test_a_stream_is_masked_however_it_is_cut_and_says_its_end(told: Any) -> None:
    assert [["it is my <SECRET> and no more of it is told here, whatever you ask", "stop"]] * 6 == told["streams"]


def test_whole_answers_of_every_api_are_masked(told: Any) -> None:
    assert [2, 1, 1, 1] == [answer.count("<SECRET>") for answer in told["answers"]]
    assert [] == [answer for answer in told["answers"] if "secret" in answer]


def test_refusals_are_errors_that_clients_understand(told: Any) -> None:
    for refused, words in (("refused", "refuses this request"), ("stream_refused", "refuses this answer")):
        error = told[refused]
        assert ("400", "guardrail_refused", "guardrail_refused") == (error["status"], error["type"], error["code"])
        assert f"The guardrail heron {words}" in error["message"]
