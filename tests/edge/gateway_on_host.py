"""A gateway small enough for a bare host: answers with its name, and streams a line every tenth of a second."""

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        seconds = float(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.wfile.write(b".")
            time.sleep(0.1)
        self.wfile.write(b"[DONE]")


ThreadingHTTPServer((sys.argv[1], 4000), Handler).serve_forever()
