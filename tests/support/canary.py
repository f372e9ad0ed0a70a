"""A loopback listener that counts who connects, to prove that something did not.

A test that expects no connection asks `hits()`, which first connects once itself: the kernel hands connections over in
the order they came, so once the canary has seen its own, any earlier one has been counted as well. No waiting, no
guessing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answer = bytes | Callable[[bytes], bytes]


def http_answer(status: int = 200, body: bytes = b"canary", **headers: str) -> bytes:
    """A whole HTTP/1.1 answer; `content_type="text/plain"` becomes the header `content-type`."""
    lines = [f"HTTP/1.1 {status} Canary", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


CANARY = http_answer()


@dataclass(eq=False)
class Canary:
    """One listener.

    Args:
        answer: the bytes to answer every request with, or a function from the request's bytes to them. An empty
            answer closes the connection.
        tls: the server's context, where it speaks TLS.
    """

    answer: Answer
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    _peers: list[int] = field(default_factory=list)
    _own: set[int] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"

    async def hits(self) -> int:
        """How many connections came, without the canary's own. For a listener without TLS, which is seen at once."""
        assert self.tls is None
        _, writer = await asyncio.open_connection(self.host, self.port)
        own = writer.get_extra_info("sockname")[1]
        self._own.add(own)
        async with self._arrived:
            await self._arrived.wait_for(lambda: own in self._peers)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return sum(peer not in self._own for peer in self._peers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._arrived:
            self._peers.append(writer.get_extra_info("peername")[1])
            self._arrived.notify_all()
        self._writers.add(writer)
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                answer = self.answer if isinstance(self.answer, bytes) else self.answer(request)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # who connected has gone
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


@asynccontextmanager
async def canary(
    answer: Answer = CANARY, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Canary]:
    """A canary that listens on a free port of `host` for the length of the block."""
    listener = Canary(answer, host, tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()
