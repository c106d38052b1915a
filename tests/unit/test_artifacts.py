"""What hosts of a lab are given to install from."""

from pathlib import Path

from tools.artifacts import Artifacts


def test_gateways_see_the_wheels_of_gateway_relay_and_guardrails_and_engine_hosts_those_of_engines() -> None:
    made = Artifacts(
        engine_wheels=Path("/cache/vllm"),
        gateway_wheels=Path("/cache/gateway"),
        relay_wheels=Path("/cache/relay"),
        guard_wheels=Path("/cache/guard"),
        prisma_engine=Path("/cache/prisma.tar.gz"),
        models=Path("/cache/models"),
    )

    assert [
        "h2=/cache/gateway:/srv/wheelhouse/gateway",
        "h2=/cache/relay:/srv/wheelhouse/relay",
        "h2=/cache/guard:/srv/wheelhouse/guard",
        "h4=/cache/vllm:/srv/wheelhouse/vllm",
    ] == made.binds(gateways=["h2"], engine_hosts=["h4"])
