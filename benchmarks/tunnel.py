"""Tunnel: TLS for one stream, between buffers in memory, so that the stream alone deals with the socket."""

import ssl

READ_BYTES = 65536


class Tunnel:
    """The client's side of one TLS connection. Raises ssl.SSLError for whatever the server gets wrong."""

    __slots__ = ("_incoming", "_outgoing", "_session")

    def __init__(self, context: ssl.SSLContext, *, server_name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def shake(self) -> bool:
        """Goes on with the handshake; whether it is over now."""
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, plain: bytes) -> None:
        """Puts all of it among what is to be sent."""
        rest = memoryview(plain)
        while rest:
            rest = rest[self._session.write(rest) :]

    def to_send(self) -> bytes:
        """What the socket is to carry now."""
        return self._outgoing.read()

    def heard(self, data: bytes) -> None:
        """What the socket carried."""
        self._incoming.write(data)

    def plain(self) -> bytes:
        """What can be read of what was heard."""
        found = b""
        try:
            while piece := self._session.read(READ_BYTES):
                found += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return found
