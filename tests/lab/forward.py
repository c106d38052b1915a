"""The process behind `forward`: accepts on the machine's loopback, connects inside the lab.

labd opens the listening socket in the machine's namespace and starts this process in the lab's.
"""

import socket
import socketserver

from .relay import between_sockets

_CONNECT_SECONDS = 10


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, target: tuple[str, int]) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.target = target


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            remote = socket.create_connection(self.server.target, _CONNECT_SECONDS)
        except OSError:
            return  # the client sees its connection closed, as with a dead host
        remote.settimeout(None)
        with remote:
            between_sockets(self.request, remote)


def main(descriptor: int, address: str, port: int) -> None:
    """Entry of `lab internal forward`."""
    with _Server(socket.socket(fileno=descriptor), (address, port)) as server:
        server.serve_forever()
