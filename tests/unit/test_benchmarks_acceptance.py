"""The acceptance document judges without rounding up, its page is whole, and its seal breaks when touched."""

import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import signing
from benchmarks.acceptance import CHECKLIST, Acceptance, ItemStatus, Prediction, Verification, checklist
from benchmarks.acceptance_page import number, render_page
from benchmarks.errors import BrokenBundle
from benchmarks.load import Target, Workload
from benchmarks.result import Criterion, SuiteResult
from benchmarks.suites.gateway_overhead import gateway_overhead
from benchmarks.suites.throughput import throughput
from sizing.errors import DocumentError
from tests.fakes.simulated_site import simulated_site

TARGET = Target(base_url="http://127.0.0.1:1/v1", model="null")
ALL: dict[str, tuple[ItemStatus, str]] = dict.fromkeys(CHECKLIST, ("passed", "seen"))


def suite(**changes: Any) -> SuiteResult:
    met = Criterion(name="requests that failed", agreed="at most 0.00%", seen="0 of 60", passed=True)
    parts: dict[str, Any] = {
        "suite": "smoke",
        "question": "Does it answer?",
        "verdict": "passed",
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_seconds": 60.0,
        "criteria": (met,),
    }
    return SuiteResult.model_validate(parts | changes)


def acceptance(**changes: Any) -> Acceptance:
    parts: dict[str, Any] = {
        "site": "lab",
        "accepted_at": "2026-01-01T00:00:00+00:00",
        "plan_digest": "sha256:aa",
        "request_digest": "sha256:bb",
        "criteria_source": "request.yml",
        "versions": {"vLLM": "0.32.0"},
        "verification": Verification(passed=True, checks_count=41),
        "suites": (suite(),),
        "checklist": checklist(ALL),
    }
    return Acceptance.parse(parts | changes, origin="test")


def test_a_site_is_accepted_when_everything_was_seen_to_hold() -> None:
    assert [] == acceptance().objections
    assert acceptance().accepted


def test_an_item_that_is_not_available_never_passes() -> None:
    without = {item: seen for item, seen in ALL.items() if item != "audit_trail"}

    judged = acceptance(checklist=checklist(without))

    assert not judged.accepted
    assert ["the audit trail is complete: not available"] == judged.objections


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        (
            {"suites": (suite(verdict="invalid", objections=("schedule delay p99 247 ms passes 100 ms",)),)},
            "suite smoke says nothing about the site, our own load generator was late: schedule delay p99 247 ms "
            "passes 100 ms",
        ),
        ({"suites": (suite(verdict="failed"),)}, "suite smoke: failed"),
        ({"suites": ()}, "no suite ran"),
        (
            {"verification": Verification(passed=False, checks_count=3, failed=("window of qwen",))},
            "verification failed: window of qwen",
        ),
        ({"checklist": checklist(ALL | {"fallback": ("failed", "")})}, "a fallback is invisible to users: failed"),
    ],
)
def test_each_thing_that_stands_against_acceptance_is_named(changes: dict[str, Any], objection: str) -> None:
    assert objection in acceptance(**changes).objections


def test_the_checklist_has_its_eight_items_or_is_no_checklist() -> None:
    with pytest.raises(DocumentError, match="must hold exactly"):
        acceptance(checklist=checklist(ALL)[:7])
    with pytest.raises(KeyError, match="no such checklist items: tea"):
        checklist({"tea": ("passed", "hot")})


def test_an_exact_prediction_must_be_equal_and_an_interval_must_hold_the_measured_number() -> None:
    def prediction(measured: float | None, **more: Any) -> Prediction:
        return Prediction(subject="h2/qwen", name="KV", unit="tokens", predicted=100, measured=measured, **more)

    assert prediction(100, exact=True).holds is True
    assert prediction(99, exact=True).holds is False
    assert prediction(90, predicted_low=80, predicted_high=120).holds is True
    assert prediction(121, predicted_low=80, predicted_high=120).holds is False
    assert prediction(None).holds is None
    assert "h2/qwen: KV predicted 100, measured 99" in acceptance(predictions=(prediction(99, exact=True),)).objections


class _Reader(HTMLParser):
    """Collects ids and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.charts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.charts += tag == "svg"
        self.fetched += [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]
        assert tag not in {"script", "link", "img", "iframe"}


@pytest.fixture(scope="module")
def page() -> str:
    site, gateway = simulated_site(slots=4, ttft_ms=20), simulated_site(slots=4, ttft_ms=27)
    other = TARGET.model_copy(update={"base_url": "http://127.0.0.1:2/v1"})
    suites = (
        throughput(site, TARGET, workload=Workload(), first_rate=20, seconds=10, warmup_seconds=2, repeats=1),
        gateway_overhead(
            lambda load: (gateway if load.target == other else site)(load),
            gateway=other,
            engine=TARGET,
            workload=Workload(),
            rate_per_second=10,
            pairs=2,
        ),
        suite(criteria=(Criterion(name="<b>bold</b> & co", agreed="x", seen="y", passed=False),), verdict="failed"),
    )
    predictions = (
        Prediction(subject="h2", name="KV", unit="tokens", predicted=15616, measured=15616, exact=True),
        Prediction(subject="h3", name="speed", unit="tokens/s", predicted=300, measured=None),
    )
    return render_page(acceptance(suites=suites, predictions=predictions, checklist=checklist({})))


def test_the_page_fetches_nothing_and_every_id_is_unique(page: str) -> None:
    reader = _Reader()
    reader.feed(page)

    assert len(reader.ids) == len(set(reader.ids))
    assert reader.charts >= 9
    assert [] == [target for target in reader.fetched if not target.startswith("#")]
    assert set(reader.fetched) <= {"#" + identity for identity in reader.ids}


def test_the_page_says_what_stands_against_acceptance_and_all_eight_items(page: str) -> None:
    assert "lab is not accepted" in page
    assert 9 == page.count(">not available</span>")  # the eight items, and the faults that nobody injected
    assert all(title in page for title in CHECKLIST.values())
    assert "0 of 8 passed" in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page


def test_charts_take_their_colours_and_letters_from_the_page(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))

    assert "var(--one)" in drawn
    assert "font-family" not in drawn
    assert not re.search(r"#0[0-9][0-9a-f]{4}\b", drawn)


def test_the_same_acceptance_gives_the_same_page() -> None:
    assert render_page(acceptance()) == render_page(acceptance())


@pytest.mark.parametrize(
    ("value", "text"),
    [(15616.0, "15,616"), (0.0312, "0.0312"), (99.96, "100"), (7.0, "7"), (None, ""), (1234.5, "1,234")],
)
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert text == number(value)


@pytest.fixture
def sealed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    bundle = tmp_path / "bundle"
    (bundle / "raw").mkdir(parents=True)
    (bundle / "report.json").write_text("{}")
    (bundle / "raw" / "a.history").write_bytes(b"\x00\x01")
    signing.seal(bundle, key=keys[0])
    return bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(private key, allowed signers)."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(directory / name)]
        subprocess.run(command, check=True)
    public = (directory / "ours.pub").read_text().strip()
    allowed = directory / "allowed_signers"
    allowed.write_text(f'acceptance@example.org namespaces="{signing.NAMESPACE}" {public}\n')
    return directory / "ours", allowed


def test_a_sealed_bundle_names_its_signer(sealed: Path, keys: tuple[Path, Path]) -> None:
    assert "acceptance@example.org" == signing.check(sealed, allowed_signers=keys[1])


def _add_line(bundle: Path) -> None:
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write("00  extra\n")


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a changed file": (lambda bundle: (bundle / "report.json").write_text("{ }"), "changed after it was signed"),
    "a removed file": (lambda bundle: (bundle / "raw" / "a.history").unlink(), "no longer there"),
    "an added file": (lambda bundle: (bundle / "raw" / "b").write_text(""), "not among the signed files"),
    "a changed list": (_add_line, "the signature does not hold"),
    "a link": (lambda bundle: (bundle / "link").symlink_to("/etc/hostname"), "holds no links"),
    "no signature": (lambda bundle: (bundle / "SHA256SUMS.sig").unlink(), "no such file"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_touched_bundle_is_refused_with_its_reason(name: str, sealed: Path, keys: tuple[Path, Path]) -> None:
    touch, reason = TAMPERED[name]
    touch(sealed)

    with pytest.raises(BrokenBundle, match=reason):
        signing.check(sealed, allowed_signers=keys[1])


def test_a_bundle_signed_by_a_stranger_is_refused(sealed: Path, keys: tuple[Path, Path]) -> None:
    signing.seal(sealed, key=keys[0].with_name("theirs"))

    with pytest.raises(BrokenBundle, match="signed by nobody"):
        signing.check(sealed, allowed_signers=keys[1])


def test_a_signature_made_for_another_purpose_is_refused(sealed: Path, keys: tuple[Path, Path]) -> None:
    (sealed / "SHA256SUMS.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", str(keys[0]), "-n", "file", str(sealed / "SHA256SUMS")], check=True
    )

    with pytest.raises(BrokenBundle, match=r"signed by nobody|does not hold"):
        signing.check(sealed, allowed_signers=keys[1])


def test_a_key_that_is_not_there_leaves_no_half_sealed_bundle(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")

    with pytest.raises(BrokenBundle, match="not signed"):
        signing.seal(tmp_path, key=tmp_path / "no-such-key")

    assert ["report.json"] == [path.name for path in tmp_path.iterdir()]
