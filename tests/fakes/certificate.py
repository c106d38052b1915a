"""A certificate that nobody trusts, for 127.0.0.1."""

import subprocess
from pathlib import Path


def self_signed(directory: Path) -> Path:
    """A PEM file with certificate and key."""
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=null"
    places = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / "key", "-out", directory / "crt"]
    subprocess.run(["openssl", *asked.split(), *places], check=True, capture_output=True)
    both = directory / "both.pem"
    both.write_text((directory / "crt").read_text() + (directory / "key").read_text())
    return both
