"""The command line as a script meets it: answer on stdout, talk on stderr, one line for what the user can act on."""

import json
import subprocess
import sys

import pytest

from tests.command_line import llm_size

VERBS = ("probe", "schema", "estimate", "recommend", "check", "explain", "verify", "fetch")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_examples_in_its_help(verb: str) -> None:
    answer = llm_size(verb, "--help")

    assert 0 == answer.returncode
    assert f"  llm-size {verb}" in answer.stdout.partition("Examples:")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("probe", "--no-such-option"), "No such option: --no-such-option"),
        (("no-such-verb",), "No such command 'no-such-verb'"),
        (("probe", "--accelerator", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("schema",), "name a document"),
        (("schema", "--write", "/proc/nowhere"), "/proc/nowhere"),
        (("probe", "--measurement", "/no/such/file"), "/no/such/file: No such file or directory"),
        (("recommend",), "give --model (repeatable) or --site"),
        (("recommend", "--model", "Qwen/Qwen3-8B", "--write"), "--write needs --site"),
        (("check", "/no/such/site"), "/no/such/site: no such site"),
        (("explain", "--site", "/no/such/site"), "no plan yet"),
        (("verify", "--site", "/no/such/site"), "no plan yet"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    answer = llm_size(*arguments)

    assert 2 == answer.returncode
    assert all(line.startswith("llm-size: ") for line in answer.stderr.splitlines())
    assert words in answer.stderr


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m sizing schema plan | head -c 1"

    answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)

    assert ("{", "") == (answer.stdout, answer.stderr)


def test_without_a_verb_the_verbs_are_listed() -> None:
    answer = llm_size()

    assert 2 == answer.returncode
    assert all(f"  {verb} " in answer.stderr for verb in VERBS)


def test_probe_prints_a_document_and_talks_beside_it() -> None:
    answer = llm_size("probe", "--accelerator", "cpu", "--host", "h9")

    assert "h9" == json.loads(answer.stdout)["host"]
    assert answer.stderr.startswith("llm-size: h9: ")


def test_probe_turns_a_measurement_into_host_vars_and_refuses_one_of_another_host() -> None:
    measurement = llm_size("probe", "--accelerator", "cpu", "--host", "h9").stdout

    right = llm_size("probe", "--measurement", "-", "--host", "h9", "--host-vars", stdin=measurement)
    wrong = llm_size("probe", "--measurement", "-", "--host", "h1", "--host-vars", stdin=measurement)
    broken = llm_size("probe", "--measurement", "-", stdin='{"host": "h9"}')

    assert "h9" == json.loads(right.stdout)["appliance_hardware"]["host"]
    assert (2, "llm-size: -: measured on h9, not on h1") == (wrong.returncode, wrong.error)
    assert (2, True) == (broken.returncode, broken.error.startswith("llm-size: -: "))
