"""A TCP proxy on loopback that can be told to answer late: a store that is slow, without one."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CHUNK = 65536  # bytes


@dataclass
class Proxy:
    """Listens at `port`, hands on to `target` of 127.0.0.1; what comes back is `delay` seconds late."""

    target: int
    port: int = 0
    delay: float = 0.0

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Until `stop`; then every connection is cut, on both sides."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await stop.wait()
        open_now = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await asyncio.sleep(0)  # a transport that was cut lets go of its socket in the next turn of the loop

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sides = [writer]
        try:
            with suppress(OSError):
                back, forth = await asyncio.open_connection("127.0.0.1", self.target)
                sides.append(forth)
                await asyncio.gather(self._pass_on(reader, forth, late=False), self._pass_on(back, writer, late=True))
            writer.close()
        except asyncio.CancelledError:
            for side in sides:
                side.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await asyncio.sleep(self.delay if late else 0)
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy before the port `target`, in a thread."""
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
