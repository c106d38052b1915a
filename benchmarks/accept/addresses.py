"""Addresses: where the clients of a run ask, whom they trust, and where throwaway keys are made.

A site with edges shows its clients one address and no administration; keys are made at a gateway behind it.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.accept.hosts import Inventory
from sizing.plan import Plan

CERTIFICATE = "edge.pem"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """URLs end in /v1. `ca_file` is None where the system's authorities are asked."""

    clients_url: str
    keys_url: str
    ca_file: Path | None = None


def addresses(plan: Plan, inventory: Inventory, *, named_url: str | None, directory: Path) -> Addresses:
    """What the operator named, else what the inventory declares, else the planned gateway."""
    planned = f"http://{plan.gateway.address}:{plan.gateway.port}/v1"
    clients = named_url or inventory.clients_url or planned
    return Addresses(
        clients_url=clients,
        keys_url=planned if inventory.clients_url else clients,
        ca_file=_certificate(clients, inventory, directory),
    )


def _certificate(clients_url: str, inventory: Inventory, directory: Path) -> Path | None:
    """The certificate of the site's own edges, which everybody who connects is shown."""
    if not (inventory.clients_url and clients_url == inventory.clients_url and inventory.certificate):
        return None
    path = directory / CERTIFICATE
    path.write_text(inventory.certificate.strip() + "\n", encoding="utf-8")
    return path.resolve()
