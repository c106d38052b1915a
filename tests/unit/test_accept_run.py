"""The edges of an acceptance: what is agreed, what keys do, how a bundle is checked, how the command ends."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accept import bundle
from benchmarks.accept.agreed_suites import models_of, shortened
from benchmarks.accept.check_bundle import check_bundle
from benchmarks.accept.command import accept_command
from benchmarks.accept.keys import Keys
from benchmarks.accept.predictions import predictions
from benchmarks.accept.witness import Journal
from benchmarks.errors import BadLoad, BrokenBundle
from benchmarks.null_process import ROOT
from benchmarks.signing import NAMESPACE
from plugins.modules.observe_journal import received_ids
from sizing.acceptance_criteria import AcceptanceCriteria
from sizing.cli import run
from sizing.errors import DocumentError
from sizing.plan import Plan
from sizing.report import EngineSeen, Report
from sizing.request import Request
from tests.fakes.lab_site import GEMMA, QWEN, plan_content
from tests.fakes.replay import Reply, replaying
from tests.unit.test_benchmarks_acceptance import acceptance

MODEL = {"name": "chat", "source": "tiny", "context_tokens": 1024, "output_tokens": 256}


def request(**criteria: Any) -> Request:
    return Request.parse({"site": "lab", "models": [MODEL], "acceptance": criteria}, origin="request.yml")


def test_a_request_without_criteria_keeps_its_digest_and_criteria_change_it() -> None:
    plain = Request.parse({"site": "lab", "models": [MODEL]}, origin="request.yml")

    content = plain.model_dump(mode="json")
    del content["acceptance"]

    assert Request.parse(content, origin="again").digest() == plain.digest()
    assert request().digest() != plain.digest()
    assert request(objective={"ttft_ms": 500}).digest() != request().digest()


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({"objective": {"ttft_ms": 2000, "e2e_ms": 500}}, "e2e_ms 500 is not above ttft_ms 2000"),
        ({"objective": {"ttft_ms": None, "tpot_ms": None}}, "at least one of"),
        ({"objective": {"ttft_ms": 40}}, "whole objective of 40 ms"),
        ({"objective": {"share_ratio": 0.999}}, "judge at least 1000"),
        ({"load": {"seconds": 5, "warmup_seconds": 5}}, "leaves nothing of 5 seconds"),
        ({"load": {"prompt_tokens": 1000, "output_tokens": 64}}, "asks for 1064 tokens in the mean"),
        ({"loaded_models": ["other"]}, "names other, which is not a requested model"),
        ({"suites": ["smoke", "smoke"]}, "smoke is named twice"),
        ({"suites": ["tea"]}, "acceptance.suites"),
        ({"speed": 1}, "Extra inputs are not permitted"),
    ],
)
def test_criteria_that_contradict_themselves_are_refused_in_one_line(criteria: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        request(**criteria)

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_quick_run_is_shorter_and_judges_by_the_same_bounds() -> None:
    agreed = AcceptanceCriteria()

    quick = shortened(agreed)

    assert quick.load.seconds < agreed.load.seconds
    assert (quick.objective, quick.added_latency) == (agreed.objective, agreed.added_latency)


def test_every_model_is_looked_at_and_the_first_carries_the_load() -> None:
    plan = Plan.parse(plan_content(), origin="test")

    assert [QWEN, GEMMA] == [model.name for model in models_of("context", plan, AcceptanceCriteria())]
    assert [QWEN] == [model.name for model in models_of("throughput", plan, AcceptanceCriteria())]
    named = AcceptanceCriteria(loaded_models=(GEMMA,))
    assert [GEMMA] == [model.name for model in models_of("throughput", plan, named)]


def test_an_engines_journal_gives_the_ids_that_clients_gave() -> None:
    lines = (
        "INFO 11-21 [request_logger.py:65] Received request chatcmpl-1a2b-0-0-5e5b8c0e: params: SamplingParams(n=1)\n"
        "INFO 11-21 [async_llm.py:578] Added request chatcmpl-1a2b-0-0-5e5b8c0e-8d420578.\n"
        "INFO 11-21 [request_logger.py:65] Received request cmpl-straight-1-0: params: SamplingParams(n=1)\n"
    )

    journal = Journal(request_ids=tuple(received_ids(lines)))

    assert ("1a2b-0-0-5e5b8c0e", "straight-1-0") == journal.request_ids
    assert {"1a2b-0-0", "straight-1-0"} <= journal.call_ids


def test_keys_are_deleted_at_the_end_even_of_a_run_that_failed() -> None:
    with replaying(lambda _: Reply(content={"key": "sk-throwaway"})) as gateway:
        keys = Keys(f"{gateway.url}/v1", "sk-master", lifetime_hours=1)
        with pytest.raises(RuntimeError), keys:
            key = keys.make("accept-1", models=("chat",), budget=0.5)
            raise RuntimeError

    assert "sk-throwaway" not in repr(key)
    assert ["/key/generate", "/key/delete"] == [one.path for one in gateway.asked]
    assert 0.5 == gateway.asked[0].body["max_budget"]
    assert ["accept-1"] == gateway.asked[1].body["key_aliases"]


def test_a_gateway_that_is_not_there_is_one_line_that_names_the_option() -> None:
    with (
        pytest.raises(BadLoad, match="--gateway names another address"),
        Keys("http://127.0.0.1:9/v1", "sk-master", lifetime_hours=1) as keys,
    ):
        keys.make("accept-1", models=("chat",))


def test_the_living_engines_stand_beside_the_plan() -> None:
    plan = Plan.parse(plan_content(), origin="test")
    planned = next(engine for host, engine in plan.engines() if host == "h2")
    seen = EngineSeen(
        host="h2",
        name=QWEN,
        model=QWEN,
        version="0.32.0",
        window_tokens=2048,
        kv_cache_tokens=planned.kv_cache.tokens - 1,
        memory_current_bytes=None,
        restart_count=0,
        first_token_seconds=0.1,
    )
    report = Report(
        site="lab",
        plan_digest="",
        vllm_version="",
        litellm_version="",
        observed_at="2026-11-21T09:00:00Z",
        observed_seconds=1.0,
        checks=(),
        engines=(seen,),
    )

    found = {(one.subject, one.name): one.holds for one in predictions(plan, report)}

    assert found["h2/tiny-qwen3", "KV cache"] is False
    assert found["h2/tiny-qwen3", "context window"] is True
    assert found["h3/tiny-gemma3", "KV cache"] is None


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(private key, list of allowed signers)."""
    directory = tmp_path_factory.mktemp("signer")
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    allowed = directory / "allowed"
    allowed.write_text(f'ours@example.org namespaces="{NAMESPACE}" {key.with_suffix(".pub").read_text()}')
    return key, allowed


def test_a_signed_bundle_is_checked_through_the_command_line(
    tmp_path: Path, signer: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    made = bundle.new_bundle("lab", tmp_path / "bundle")
    (made / "raw" / "calls.jsonl").write_text("{}\n")
    bundle.write(made, acceptance(), key=bundle.signing_key(signer[0]))
    command = ["accept", "--check", str(made), "--allowed-signers", str(signer[1])]

    whole = check_bundle(made, signer[1])
    (made / "raw" / "calls.jsonl").write_text("{ }\n")
    touched = run(command)

    assert 1 == touched
    assert "whole, signed by ours@example.org: lab accepted" in whole
    assert "raw/calls.jsonl: changed after it was signed" in capfd.readouterr().err


def test_a_bundle_that_another_signed_than_was_agreed_is_refused(tmp_path: Path, signer: tuple[Path, Path]) -> None:
    made = bundle.new_bundle("lab", tmp_path / "bundle")
    bundle.write(made, acceptance(criteria={"signer": "customer@example.org"}), key=signer[0])

    with pytest.raises(BrokenBundle, match=r"signed by ours@example.org, but customer@example.org was agreed"):
        check_bundle(made, signer[1])


def test_a_key_that_cannot_sign_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(BadLoad, match="does not sign"):
        bundle.signing_key(tmp_path / "no-such-key")


def test_a_directory_that_holds_something_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")

    with pytest.raises(BadLoad, match="there is something already"):
        bundle.new_bundle("lab", tmp_path)


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with pytest.raises(BadLoad, match="no-such-site: no such site") as absent:
        accept_command(site=Path("no-such-site"))
    with pytest.raises(BadLoad, match="h1: an address begins with http") as odd:
        accept_command(site=tmp_path, gateway="h1")

    assert (2, 2) == (absent.value.exit_code, odd.value.exit_code)
    assert "\n" not in f"{absent.value}{odd.value}"


def test_listing_the_commands_and_checking_a_bundle_import_neither_locust_nor_charts() -> None:
    code = (
        "import sys; from benchmarks.cli import application; application(['accept', '--check', 'x']); "
        "print([name for name in ('locust', 'matplotlib', 'scipy', 'gevent') if name in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "[]" == said.strip()


def test_a_quick_run_accepts_nothing() -> None:
    judged = acceptance(quick=True)

    assert not judged.accepted
    assert ["the run was shorter than agreed (--quick)"] == judged.objections
