"""What a person may ask of the lab, and what hosts are told as a result."""

from pathlib import Path

import pytest

from tests.lab import addresses, furnish, network, preflight, spec
from tests.lab.cli import main, parse
from tests.lab.errors import LabError, UsageError

TWO_HOSTS = spec.LabSpec(
    hosts=(
        spec.HostSpec(name="h1", address="10.77.0.11", lower=("/warm", "/bare"), binds=()),
        spec.HostSpec(
            name="h2",
            address="10.77.0.12",
            lower=("/bare",),
            binds=(spec.Bind(source="/s", target="/srv/wheelhouse/v"),),
        ),
    )
)


def test_hosts_count_from_11() -> None:
    assert ["10.77.0.11", "10.77.0.12", "10.77.0.19"] == [addresses.host_address(name) for name in ("h1", "h2", "h9")]


@pytest.mark.parametrize("name", ["h0", "h100", "x1", "", "h1 "])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no lab host"):
        addresses.host_address(name)


def test_a_bind_names_a_host_a_source_and_a_target() -> None:
    assert spec.parse_bind("h1=/data/wheels/:/srv/wheelhouse/vllm") == (
        "h1",
        spec.Bind(source="/data/wheels", target="/srv/wheelhouse/vllm"),
    )


@pytest.mark.parametrize("text", ["/a:/b", "h1=/a", "h1=a:/b", "h1=/a:b", "h1=/a:/", "h1=/a:/b/../..", "h1=/a\tb:/c"])
def test_a_bind_that_is_not_host_source_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--bind"):
        spec.parse_bind(text)


@pytest.mark.parametrize("text", ["NAME", "h2=", "h2=../x", "h2=a:b", "h2=.hidden"])
def test_a_layer_that_is_not_host_and_plain_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        spec.parse_layer(text)


def test_a_bind_for_all_reaches_every_host() -> None:
    wishes = [("all", spec.Bind(source="/a", target="/x")), ("h2", spec.Bind(source="/b", target="/y"))]

    assert ["/a"] == [bind.source for bind in spec.for_host("h1", wishes)]
    assert ["/a", "/b"] == [bind.source for bind in spec.for_host("h2", wishes)]


def test_pip_on_a_host_knows_its_wheelhouses_and_no_index() -> None:
    binds = tuple(
        spec.Bind(source="/s", target=target)
        for target in ("/srv/wheelhouse/vllm", "/srv/other", "/srv/wheelhouse/litellm")
    )

    assert spec.pip_conf(binds).splitlines() == [
        "[global]",
        "no-index = true",
        "disable-pip-version-check = true",
        "find-links = /srv/wheelhouse/vllm /srv/wheelhouse/litellm",
    ]
    assert "find-links" not in spec.pip_conf(())


def test_a_lab_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    TWO_HOSTS.write(tmp_path)

    assert TWO_HOSTS == spec.LabSpec.read(tmp_path)


def test_a_missing_host_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LabError, match="there is no host 'h3'; this lab has h1, h2"):
        TWO_HOSTS.host("h3")


def test_ssh_finds_hosts_by_name_and_by_address() -> None:
    config = furnish.ssh_config(Path("/clone/.lab"), TWO_HOSTS)

    assert "Host h1 10.77.0.11 h2 10.77.0.12" == config.splitlines()[0]
    assert "    StrictHostKeyChecking yes" in config.splitlines()


def test_a_cut_cable_drops_both_directions_and_a_partition_both_ways_of_one_pair() -> None:
    rules = [line.strip() for line in network.ruleset({"h2"}, {("h1", "h3")}).splitlines() if "drop" in line]

    assert rules == [
        'iifname "v-h2" drop',
        'oifname "v-h2" drop',
        'iifname "v-h1" oifname "v-h3" drop',
        'iifname "v-h3" oifname "v-h1" drop',
    ]


@pytest.mark.parametrize("text", ["4000", "127.0.0.1", ":4000", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not ADDRESS:PORT"):
        addresses.parse_endpoint(text)


def test_a_command_after_two_dashes_keeps_its_own_options() -> None:
    options = parse(["exec", "h1", "--", "grep", "-l", "--", "-x", "file"])

    assert ("h1", ["grep", "-l", "--", "-x", "file"]) == (options.host, options.command)


def test_a_forward_listens_on_loopback_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "refuse_elsewhere", lambda: None)

    assert 2 == main(["forward", "0.0.0.0:4000", "h1:4000"])
    assert "lab: forward listens on this machine's loopback only, not on 0.0.0.0\n" == capsys.readouterr().err


def test_without_root_one_line_says_what_still_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")

    assert 2 == main(["up", "3"])
    assert capsys.readouterr().err == (
        "lab: the lab needs root, to boot real hosts; "
        "what works here without it: `make test` (skips the lab tier) and `llm-size`\n"
    )
