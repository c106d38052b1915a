"""What decides which base image a machine uses, and what the machine's apt sources mean for the hosts."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import apt
from tests.lab.base import Recipe
from tests.lab.errors import LabError

DEB822 = """\
Types: deb deb-src
# a comment between fields
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/linux/debian
Suites: trixie
Components: stable
Signed-By: /etc/apt/keyrings/vendor.asc

Enabled: no
Types: deb
URIs: http://old.example/debian
Suites: bookworm
Components: main
"""


def recipe() -> Recipe:
    return Recipe(
        sources="Types: deb\n",
        apt_policy="",
        certificates=(("own.crt", b"x"),),
        architecture="x86_64",
        bare_packages=("systemd",),
        warm_packages=("postgresql",),
    )


def test_a_longer_list_of_warm_packages_leaves_the_bare_image_as_it_is() -> None:
    more = replace(recipe(), warm_packages=("postgresql", "rsync"))

    assert more.bare_key() == recipe().bare_key()
    assert more.warm_key() != recipe().warm_key()


@pytest.mark.parametrize(
    "changed",
    [
        replace(recipe(), sources="Types: deb\nURIs: http://other.example/debian\n"),
        replace(recipe(), certificates=(("own.crt", b"y"),)),
        replace(recipe(), bare_packages=("systemd", "sudo")),
        replace(recipe(), apt_policy='Acquire::Retries "3";\n'),
    ],
    ids=["sources", "certificate", "packages", "policy"],
)
def test_every_input_of_the_bare_image_changes_both_keys(changed: Recipe) -> None:
    assert changed.bare_key() != recipe().bare_key()
    assert changed.warm_key() != recipe().warm_key()


def test_hosts_use_the_debian_archive_of_the_machine_asked_for_debian_12() -> None:
    written = apt.debian_sources(apt.parse_deb822(DEB822))

    assert written == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_the_classic_one_line_format_is_understood() -> None:
    off = "# deb http://no.example/debian bookworm main\n"
    on = "deb [arch=amd64] http://mirror.example/debian bookworm main contrib\n"

    assert apt.parse_one_line(off + on) == [
        apt.Source(
            uris=("http://mirror.example/debian",), suites=("bookworm",), components=("main", "contrib"), signed_by=""
        )
    ]


def test_the_proxy_allows_every_server_of_the_machines_enabled_sources() -> None:
    assert {"mirror.example", "vendor.example"} == apt.allowed_hosts(apt.parse_deb822(DEB822))


def test_a_machine_without_a_debian_archive_is_told_so() -> None:
    with pytest.raises(LabError, match="name no Debian archive"):
        apt.debian_sources(apt.parse_one_line("deb http://archive.example/ubuntu jammy main\n"))


def test_sources_are_read_from_both_formats_and_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (tmp_path / "sources.list.d/two.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/three.list.save").write_text("deb http://three.example/debian bookworm main\n")

    hosts = apt.allowed_hosts(apt.machine_sources(tmp_path))

    assert {"one.example", "mirror.example", "vendor.example"} == hosts
