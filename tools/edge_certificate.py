"""A certificate for an edge that has none from its operator: self-signed, for the names that clients will use."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=825)
"""The longest life that Apple's clients accept of a certificate installed by hand (support.apple.com/103769)."""
CLOCK_DIFFERENCE = timedelta(days=1)
"""Hosts whose clock is behind accept it too."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Both in PEM."""

    certificate: str
    private_key: str


def make_certificate(server_names: Sequence[str], *, now: datetime | None = None) -> Certificate:
    """A new key and a certificate for these names and addresses; it is its own authority."""
    if not server_names:
        raise ValueError("a certificate needs at least one name; set edge_server_names")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_names[0][:64])])
    begin = (now or datetime.now(UTC)) - CLOCK_DIFFERENCE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + VALID)
        .add_extension(x509.SubjectAlternativeName([_general_name(one) for one in server_names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
