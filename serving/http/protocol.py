"""The HTTP/1.1 protocol of a worker: uvicorn's, with bounds on what a connection may send, hold and keep waiting.

uvicorn keeps a request's line and headers, and an answer that is not read, whatever their size and for any time; and it
has no option for it. BentoML makes uvicorn's configuration and passes no protocol, so `use_bounded_protocol` registers
this one as uvicorn's default.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

CONNECTIONS = 512  # of a worker, whose files are often limited to 1,024; one more is closed at once
HEAD_BYTES = 65_536  # of the request line and the headers
HEADERS = 128  # of a request, trailers included
FRAME_BYTES = 2**20  # of a request without its body: sizes of chunks, trailers
HEAD_SECONDS = 10.0  # within which request line and headers have to arrive
READ_SECONDS = 20.0  # within which a client has to read on, once it is behind with reading an answer


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection that exceeds a bound: with 431 or 408 while nothing is being answered, else at once."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ws_protocol_class = None  # there is no WebSocket here: an upgrade is answered as the request that it is
        self._in_head, self._size, self._count, self._body = True, 0, 0, 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or close a connection beyond CONNECTIONS."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timers."""
        self._stop_head_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives; a request whose head or frame is too large is refused."""
        if self.transport.is_closing():
            return
        body = self._body
        super().data_received(data)
        self._size += len(data) - (self._body - body)
        if self._size > (HEAD_BYTES if self._in_head else FRAME_BYTES):
            self._refuse()

    def on_message_begin(self) -> None:
        """Count from here; the rest of the data that has just arrived may be of the request before."""
        super().on_message_begin()
        self._in_head, self._size, self._count = True, 0, 0
        if self._head_timer is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, as long as there are few."""
        self._count += 1
        if self._count <= HEADERS:
            super().on_header(name, value)
        elif not self._in_head:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Answer the request, unless its head is too large."""
        self._stop_head_timer()
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._count > HEADERS or size > HEAD_BYTES:
            self._refuse()
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body, unless the request was refused."""
        self._body += len(body)
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, unless it was refused."""
        if self.cycle is not None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait READ_SECONDS at most for a client that does not read."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client has read on."""
        self._stop_read_timer()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Go on with the next request; a closed connection stays open until the client has read everything."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _unsupported_upgrade_warning(self) -> None:
        """Write no line to the log for a request to upgrade."""

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _await_reader(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        self._read_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _refuse(self, status: HTTPStatus = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) -> None:
        """End the connection, with `status` while nothing is being answered."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
        else:
            self.transport.abort()


def use_bounded_protocol() -> None:
    """Register the protocol as uvicorn's default of this process."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__qualname__}"
