"""audit.yml and caching.yml: what is understood, and what is refused before anything changes."""

from pathlib import Path

import pytest

from sizing.audit import Audit, load_audit
from sizing.caching import Caching, load_caching
from sizing.errors import DocumentError

EXAMPLES = Path(__file__).resolve().parents[2] / "inventories" / "example" / "group_vars" / "all"


def site_with(directory: Path, name: str, content: str) -> Path:
    everything = directory / "group_vars" / "all"
    everything.mkdir(parents=True)
    (everything / f"{name}.yml").write_text(content, encoding="utf-8")
    return directory


def test_a_site_that_declares_neither_keeps_no_prompts_and_no_answers(tmp_path: Path) -> None:
    assert load_audit(tmp_path) is None
    assert load_caching(tmp_path) is None
    assert not Audit().record_prompts
    assert not Caching().enabled


def test_the_examples_are_understood(tmp_path: Path) -> None:
    audit = load_audit(site_with(tmp_path / "a", "audit", (EXAMPLES / "audit.yml.example").read_text("utf-8")))
    caching = load_caching(site_with(tmp_path / "c", "caching", (EXAMPLES / "caching.yml.example").read_text("utf-8")))

    assert Audit() == audit
    assert caching is not None
    assert ("key", ("search-prod",)) == (caching.share, caching.keys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("audit: {retention_days: 0}", "retention_days: Input should be greater than or equal to 1"),
        ("audit: {keep_prompts: true}", "keep_prompts: Extra inputs are not permitted"),
        ("retention_days: 3", "expected the single top-level key audit"),
    ],
)
def test_an_audit_that_is_not_understood_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        load_audit(site_with(tmp_path, "audit", content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("caching: {share: anybody}", "share: Input should be 'key', 'team' or 'everyone'"),
        ("caching: {ttl_seconds: 0}", "ttl_seconds"),
        ("caching: {enabled: true, per_request: false}", "nobody may use it"),
        ("caching: {keys: [a, a]}", "key a is named twice"),
    ],
)
def test_a_cache_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        load_caching(site_with(tmp_path, "caching", content))


def test_a_cache_in_memory_is_for_one_gateway_and_keys_must_be_declared() -> None:
    with pytest.raises(DocumentError, match="one gateway host, there are 2"):
        Caching(enabled=True, store="memory").check(gateway_hosts=2, aliases=None)
    with pytest.raises(DocumentError, match=r"key ghost is not among the keys of access\.yml"):
        Caching(enabled=True, keys=("ghost",)).check(gateway_hosts=1, aliases={"real"})
