"""A server that stands in for a service: what the load generator measures of it is known beforehand."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

SLOW = 0.03  # seconds per request: 33 a second and no more, where one is answered after another


class Handler(BaseHTTPRequestHandler):
    """Answers after SLOW with what it was sent; a body "no" is a 503."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Wait, answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(SLOW)
        self.send_response(503 if body == b'"no"' else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stand_in(kind: type[HTTPServer]) -> Iterator[str]:
    """The address of a server: HTTPServer answers one request after another, ThreadingHTTPServer many at once."""
    made = type("SlowServer", (kind,), {"request_queue_size": 256})(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    thread.join()
    made.server_close()
