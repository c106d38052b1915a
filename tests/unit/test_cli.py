"""The command line as a script meets it: answer on stdout, talk on stderr, one line for what the user can act on."""

import json
import os
import subprocess
import sys

import pytest

VERBS = ("probe", "schema")


def _run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sizing", *arguments],
        input=stdin,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_examples_in_its_help(verb: str) -> None:
    answer = _run(verb, "--help")

    assert 0 == answer.returncode
    assert f"  llm-size {verb}" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("probe", "--no-such-option"), "No such option: --no-such-option"),
        (("no-such-verb",), "No such command 'no-such-verb'"),
        (("probe", "--accelerator", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("schema",), "name a document"),
        (("schema", "--write", "/proc/nowhere"), "/proc/nowhere"),
        (("probe", "--measurement", "/no/such/file"), "/no/such/file: No such file or directory"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    answer = _run(*arguments)

    assert (2, "") == (answer.returncode, answer.stdout)
    assert answer.stderr.startswith("llm-size: ")
    assert words in answer.stderr
    assert 1 == answer.stderr.count("\n")


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m sizing schema plan | head -c 1"

    answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)

    assert ("{", "") == (answer.stdout, answer.stderr)


def test_probe_prints_a_document_and_talks_beside_it() -> None:
    answer = _run("probe", "--accelerator", "cpu", "--host", "h9")

    assert "h9" == json.loads(answer.stdout)["host"]
    assert answer.stderr.startswith("llm-size: h9: ")


def test_probe_turns_a_measurement_into_host_vars_and_refuses_one_of_another_host() -> None:
    measurement = _run("probe", "--accelerator", "cpu", "--host", "h9").stdout

    right = _run("probe", "--measurement", "-", "--host", "h9", "--host-vars", stdin=measurement)
    wrong = _run("probe", "--measurement", "-", "--host", "h1", "--host-vars", stdin=measurement)
    broken = _run("probe", "--measurement", "-", stdin='{"host": "h9"}')

    assert "h9" == json.loads(right.stdout)["appliance_hardware"]["host"]
    assert (2, "llm-size: -: measured on h9, not on h1\n") == (wrong.returncode, wrong.stderr)
    assert (2, 1) == (broken.returncode, broken.stderr.count("\n"))
