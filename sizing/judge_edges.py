"""Judge of the edges: clients come in over the one address, and others stay out."""

from collections.abc import Iterator
from http import HTTPStatus

from sizing.observation import EdgeObservation, Observation
from sizing.report import Check
from sizing.verdicts import compare, status_text

DAYS_TO_RENEW = 14
"""What an operator needs to get a certificate signed; a choice of ours."""


def judge_edges(observation: Observation) -> Iterator[Check]:
    """Every check of every edge; none on a site without edges."""
    for host, edge in observation.edges.items():
        yield from _edge(host, edge)
    yield from _one_holder(observation)
    yield from _closed_gateways(observation)


def _edge(host: str, edge: EdgeObservation) -> Iterator[Check]:
    yield compare(
        "edge.serves",
        host,
        "a client with a key is served over TLS",
        expected="200",
        seen=status_text(edge.models_status, edge.error),
        holds=edge.models_status == HTTPStatus.OK,
        advice=f"on {host}: `journalctl -u haproxy -n 50`, then `curl` a gateway directly",
    )
    if edge.error:
        return
    for check_id, statement, expected, seen in (
        ("edge.locked", "a request without a key is refused", HTTPStatus.UNAUTHORIZED, edge.keyless_status),
        ("edge.paths", "a path in disguise is refused", HTTPStatus.BAD_REQUEST, edge.disguised_path_status),
        ("edge.names", "a foreign host name is refused", HTTPStatus.MISDIRECTED_REQUEST, edge.foreign_host_status),
    ):
        yield compare(
            check_id,
            host,
            statement,
            expected=str(int(expected)),
            seen=status_text(seen),
            holds=seen == expected,
            advice="HAProxy does not run with the role's configuration: run site.yml",
        )
    days = edge.certificate_days_left
    yield compare(
        "edge.certificate",
        host,
        "the certificate stays valid for a while",
        expected=f"at least {DAYS_TO_RENEW} days",
        seen="unknown" if days is None else f"{days:g} days",
        holds=days is not None and days >= DAYS_TO_RENEW,
        advice="put a new certificate into the vault (`tools/init_vault.py --new-certificate`), then run site.yml",
    )


def _one_holder(observation: Observation) -> Iterator[Check]:
    said = {host: edge.holds_virtual_address for host, edge in observation.edges.items()}
    if not any(holds is not None for holds in said.values()):
        return
    holders = [host for host, holds in said.items() if holds]
    yield compare(
        "edge.address",
        "edges",
        "exactly one edge holds the shared address",
        expected="one edge",
        seen=", ".join(holders) or "none",
        holds=len(holders) == 1,
        advice="`journalctl -u keepalived`: two holders cannot hear each other, none has no running HAProxy",
    )


def _closed_gateways(observation: Observation) -> Iterator[Check]:
    if not observation.strangers:
        return
    let_in = [f"{gateway} let {host} in" for host, gateways in observation.strangers.items() for gateway in gateways]
    yield compare(
        "edge.only_way",
        "gateways",
        "nobody reaches a gateway past the edges",
        expected=f"refused from {', '.join(observation.strangers)}",
        seen="; ".join(let_in) or "refused",
        holds=not let_in,
        advice="run site.yml; if it comes back, see what else empties the rules of the gateway's host (nft)",
    )
