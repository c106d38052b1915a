"""Endpoint: a target made ready for connecting: resolved address, TLS context, the bytes every request begins with."""

import os
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.errors import BadLoad
from benchmarks.load import Target

PATHS = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Everything a stream needs to reach the server. `failure` is set where not even an address could be had."""

    family: int
    address: tuple[str, int]
    server_name: str
    context: ssl.SSLContext | None
    head: bytes = field(repr=False)  # holds the key: never shown
    failure: str = ""

    def request(self, *, request_id: str, body: bytes) -> bytes:
        """A whole HTTP request. The id goes out twice: as vLLM takes it, and as LiteLLM does (which hands it on)."""
        identity = request_id.encode()
        return b"%sX-Request-Id: %s\r\nx-litellm-call-id: %s\r\nContent-Length: %d\r\n\r\n%s" % (
            self.head,
            identity,
            identity,
            len(body),
            body,
        )


def endpoint(target: Target, *, api: str = "chat") -> Endpoint:
    """Resolves once, so that a slow resolver is not measured again and again; raises BadLoad on a malformed URL."""
    url = urlsplit(target.base_url)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise BadLoad(f"{target.base_url}: no usable port") from None
    if not url.hostname or url.username or url.password or url.query:
        raise BadLoad(f"{target.base_url}: give scheme, host, port and path only; keys come from {target.key_variable}")
    family, address, failure = _resolve(url.hostname, port)
    key = os.environ.get(target.key_variable, "")
    if any(character in key for character in "\r\n"):
        raise BadLoad(f"{target.key_variable} holds a line break; keys have none")
    host = url.netloc
    lines = [
        f"POST {url.path.rstrip('/')}{PATHS[api]} HTTP/1.1",
        f"Host: {host}",
        "Accept: text/event-stream",
        "Content-Type: application/json",
        "User-Agent: llm-appliance-benchmarks",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return Endpoint(
        family=family,
        address=address,
        server_name=url.hostname,
        context=trusting(target.ca_file) if url.scheme == "https" else None,
        head="".join(line + "\r\n" for line in lines).encode(),
        failure=failure,
    )


def _resolve(host: str, port: int) -> tuple[int, tuple[str, int], str]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return socket.AF_INET, ("", 0), f"{host}: {error.strerror}"
    return family, (str(address[0]), int(address[1])), ""


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the system's authorities, or this file alone: an authority, or the very certificate that is shown."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise BadLoad(f"{ca_file}: not a usable certificate file: {error}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
