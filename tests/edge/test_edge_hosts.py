"""One address over two hosts: what clients see when an edge, a gateway or a host goes. In this order, on one lab."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.lab.driving import WHY_NOT, Lab, eventually, lab_in, must
from tools.edge_certificate import make_certificate

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
HERE = Path(__file__).parent
CLIENT = "h3"
KEY_HEADER = "Authorization: Bearer sk-good-key-of-a-client"
CURL = ["curl", "--silent", "--show-error", "--cacert", "/root/authority.pem", "--header", KEY_HEADER]


@dataclass(frozen=True, kw_only=True)
class Site:
    lab: Lab
    directory: Path

    def deploy(self) -> str:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.directory / "hosts.yml")]
        done = subprocess.run(
            [*command, str(HERE / "edge_hosts.yml")],
            env={**os.environ, "ANSIBLE_ROLES_PATH": str(HERE.parents[1] / "roles"), "ANSIBLE_FORCE_COLOR": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.lab("exec", CLIENT, "--", *CURL, "--max-time", "4", *options, "https://10.77.0.100/v1/models")

    def holder(self) -> str:
        """The host that has the address."""
        return next(
            host
            for host in ("h1", "h2")
            if "10.77.0.100/" in must(self.lab("exec", host, "--", "ip", "-brief", "address"))
        )

    def served_after(self) -> float:
        begun = time.monotonic()
        assert eventually(lambda: self.ask().returncode == 0, within_seconds=30)
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("edge-site")
    lab = lab_in(directory / "lab")
    made = make_certificate(["ai.example", "10.77.0.100"])
    (directory / "authority.pem").write_text(made.certificate, encoding="utf-8")
    (directory / "key.pem").touch(mode=0o600)
    (directory / "key.pem").write_text(made.private_key, encoding="utf-8")
    hosts = {f"h{number}": {"ansible_host": f"10.77.0.1{number}"} for number in (1, 2)}
    variables = {
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-F {directory}/lab/ssh_config",
        "ansible_control_path_dir": f"{directory}/lab/cp",
        "authority_path": str(directory / "authority.pem"),
        "private_key_path": str(directory / "key.pem"),
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": hosts}}), encoding="utf-8")
    try:
        must(lab("up", "3", "--bind", f"all={HERE}:/srv/wheelhouse/edge"))
        for host in ("h1", "h2"):
            serve = ["/usr/bin/python3", "/srv/wheelhouse/edge/gateway_on_host.py"]
            address = hosts[host]["ansible_host"]
            must(lab("exec", host, "--", "systemd-run", "--unit=gateway", "--property=Restart=always", *serve, address))
        must(lab("exec", CLIENT, "--", "tee", "/root/authority.pem", stdin=made.certificate))
        yield Site(lab=lab, directory=directory)
    finally:
        must(lab("down"))


def test_a_second_run_changes_nothing(site: Site) -> None:
    site.deploy()

    assert 2 == site.deploy().count("changed=0 ")


def test_clients_reach_a_gateway_over_the_one_address(site: Site) -> None:
    answers = {must(site.ask()) for _ in range(6)}

    assert answers <= {"h1", "h2"}
    assert answers


def test_a_new_configuration_cuts_no_stream(site: Site) -> None:
    holder = site.holder()
    stream = [*CURL, "--max-time", "30", "--data", "4", "https://10.77.0.100/v1/completions"]
    must(
        site.lab(
            "exec", CLIENT, "--", "systemd-run", "--unit=stream", "--property=StandardOutput=file:/root/out", *stream
        )
    )

    must(site.lab("exec", holder, "--", "systemctl", "reload", "haproxy"))

    assert eventually(
        lambda: must(site.lab("exec", CLIENT, "--", "cat", "/root/out")).endswith("[DONE]"), within_seconds=20
    )


def test_the_address_moves_when_haproxy_cannot_come_back(site: Site) -> None:
    before = site.holder()

    must(site.lab("exec", before, "--", "systemctl", "stop", "haproxy"))

    print(f"served again after {site.served_after():.1f} s")
    assert site.holder() != before
    must(site.lab("exec", before, "--", "systemctl", "start", "haproxy"))


def test_a_host_without_power_costs_seconds(site: Site) -> None:
    before = site.holder()

    must(site.lab("kill", before))

    print(f"served again after {site.served_after():.1f} s")
    assert must(site.ask()) == ({"h1", "h2"} - {before}).pop()
