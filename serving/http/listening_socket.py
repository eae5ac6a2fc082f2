"""The listening socket that the workers of a service share, and how it comes to refuse connections without a reset.

The kernel completes connections before a worker accepts them. Where the socket stops listening, those that wait there
are reset, with the requests that they carry already. So a filter on the socket first drops what would begin a
connection, the workers accept what waits, and only then does it stop listening. A client whose first packet was dropped
sends it again after a second, and is refused, or reaches the service that listens there by then.

The filter: SO_ATTACH_FILTER in socket(7), a program of the classic BPF, which Linux runs on the packets of a listening
TCP socket from the TCP header on. It needs no privilege. Elsewhere nothing is dropped, and connections that come
between the last accept and the end are reset.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
FLAGS, SYN, SYN_OR_ACK = 13, 0x02, 0x12  # where the flags of a TCP header are; which of them
LOAD_BYTE, AND, JUMP_IF_EQUAL, RETURN = 0x30, 0x54, 0x15, 0x06  # linux/bpf_common.h
DROP_SYN = (
    (LOAD_BYTE, 0, 0, FLAGS),
    (AND, 0, 0, SYN_OR_ACK),
    (JUMP_IF_EQUAL, 0, 1, SYN),  # otherwise skip one instruction
    (RETURN, 0, 0, 0),  # keep no byte: drop
    (RETURN, 0, 0, 0xFFFFFFFF),
)


@contextlib.contextmanager
def listening_socket() -> Iterator[socket.socket | None]:
    """The listening socket that this worker was started with; None where it was started without one."""
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    listening = None
    with contextlib.suppress(KeyError, ValueError, OSError):
        listening = socket.socket(fileno=os.dup(int(arguments["--fd"])))
    with listening or contextlib.nullcontext():
        yield listening


def drop_new_connections(listening: socket.socket) -> None:
    """Drop the packets that would begin a connection; connections that have begun complete."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN))
    filter_of = struct.pack("HL", len(DROP_SYN), ctypes.addressof(program))
    _set(listening, SO_ATTACH_FILTER, filter_of)


def take_new_connections(listening: socket.socket) -> None:
    """Undo `drop_new_connections`: a worker that the arbiter starts again has the socket of the one before."""
    _set(listening, SO_DETACH_FILTER, 0)


def has_waiting(listening: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    return [event for _, event in poll.poll(0)] == [select.POLLIN]  # POLLHUP, too: it listens no longer


def refuse_connections(listening: socket.socket) -> None:
    """Let the socket refuse connections, in every process that holds it. A worker started later listens on it again."""
    with contextlib.suppress(OSError):  # another worker was faster
        listening.shutdown(socket.SHUT_RDWR)


def _set(listening: socket.socket, option: int, value: bytes | int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # no filter there, or a kernel without them
            listening.setsockopt(socket.SOL_SOCKET, option, value)
