"""A TCP proxy on loopback with an adjustable delay, which makes a store slow.

It is our own because `faulty` 0.2.1, the only one in the registries, leaves connections open when it stops: Debian, npm
and PyPI have clients of toxiproxy but not its server, and netem needs root and the kernel's module.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CHUNK = 65536  # bytes


@dataclass
class Proxy:
    """Listens at `port` and passes on to the port `target` of 127.0.0.1; answers come `delay` seconds late."""

    target: int
    port: int = 0
    delay: float = 0.0

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop`; then cut every connection on both sides."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await stop.wait()
        open_now = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn of the loop

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sides = [writer]
        try:
            with suppress(OSError):
                back, forth = await asyncio.open_connection("127.0.0.1", self.target)
                sides.append(forth)
                await asyncio.gather(self._copy(reader, forth, late=False), self._copy(back, writer, late=True))
            writer.close()
        except asyncio.CancelledError:
            for side in sides:
                side.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await asyncio.sleep(self.delay if late else 0)
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy in front of the port `target`, in a thread."""
    made, ready = Proxy(target), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    serving = made.serve(ready, stop)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,), name="proxy", daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()
