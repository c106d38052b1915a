"""tracing.yml: what is understood, and what is refused before anything changes."""

from pathlib import Path

import pytest

from sizing.errors import DocumentError
from sizing.tracing import Receiver, Tracing, load_tracing

EXAMPLE = Path(__file__).resolve().parents[2] / "inventories" / "example" / "group_vars" / "all" / "tracing.yml.example"
COLLECTOR = "{name: c, kind: opentelemetry, url: 'http://c:4318'}"


def site_with(directory: Path, content: str) -> Path:
    everything = directory / "group_vars" / "all"
    everything.mkdir(parents=True)
    (everything / "tracing.yml").write_text(content, encoding="utf-8")
    return directory


def test_a_site_that_declares_nobody_tells_nobody(tmp_path: Path) -> None:
    assert load_tracing(tmp_path) is None


def test_the_example_is_understood_and_sends_no_content(tmp_path: Path) -> None:
    tracing = load_tracing(site_with(tmp_path, EXAMPLE.read_text("utf-8")))

    assert tracing is not None
    assert [("langfuse", ("langfuse",)), ("collector", ("collector",))] == [
        (receiver.name, receiver.key_names) for receiver in tracing.receivers
    ]
    assert not any(receiver.content for receiver in tracing.receivers)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("receivers: []", "expected the single top-level key tracing"),
        ("tracing: {receivers: []}", "receivers: "),
        (f"tracing: {{receivers: [{COLLECTOR}, {COLLECTOR}]}}", "receiver c is declared twice; keep one"),
        ("tracing: {receivers: [{name: l, kind: langfuse, url: 'https://l'}]}", "receiver l: langfuse needs key"),
        ("tracing: {receivers: [{name: c, kind: opentelemetry, url: 'http://c', key: k}]}", "takes headers instead"),
        ("tracing: {receivers: [{name: c, kind: opentelemetry, url: 'http://me:word@c'}]}", "url: "),
        ("tracing: {receivers: [{name: c, kind: opentelemetry, url: 'http://c/?token=1'}]}", "url: "),
        (
            "tracing: {receivers: [{name: c, kind: opentelemetry, url: 'http://8.8.8.8', inside: true}]}",
            "public address",
        ),
        ("tracing: {receivers: [{name: c, kind: jaeger, url: 'http://c'}]}", "kind: "),
        ("tracing: {receivers: [{name: c, kind: opentelemetry, url: 'http://{{c}}'}]}", "is a template"),
        (f"tracing: {{receivers: [{COLLECTOR}], content_bytes_max: 1}}", "content_bytes_max"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as refused:
        load_tracing(site_with(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_key_that_the_vault_lacks_and_a_receiver_that_would_hear_nothing_are_refused() -> None:
    langfuse = Receiver(name="l", kind="langfuse", url="https://l", key="lf")
    tracing = Tracing(receivers=(langfuse,))

    tracing.check(keys=["lf"], models=["a", "b"], internal=["a"])
    with pytest.raises(DocumentError, match="receiver l needs key lf, which is not in vault_tracing_keys"):
        tracing.check(keys=[], models=["a"], internal=[])
    with pytest.raises(DocumentError, match="receiver l would hear nothing"):
        tracing.check(keys=["lf"], models=["a"], internal=["a"])
