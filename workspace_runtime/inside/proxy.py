"""The container's way out: a proxy on its loopback, whose connections leave through the gateway.

The container has no network. The gateway holds a few lines into it that wait on a socket here; when something inside
asks the proxy for a host, one of them is told its name and carries the connection from then on. Whether the host may be
reached is decided by the gateway (`workspace_runtime.tunnel`), never here.

On such a line: here says `host port` and a line end; the gateway says `+` or `-` with a reason, and a line end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

PORT = 3128
WAIT_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
_PIECE = 65536


class Proxy:
    def __init__(self, wait: float = WAIT_SECONDS) -> None:
        self._wait = wait
        self._lines: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._more = asyncio.Condition()

    # -- the gateway's side

    async def offer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a line from the gateway, for the next connection."""
        async with self._more:
            self._lines.append((reader, writer))
            self._more.notify()

    # -- the inner side

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client inside."""
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked = _destination(head)
        if asked is None:
            await _refuse(writer, "400 Bad Request", "this proxy knows CONNECT and http://")
            return
        host, port, forward = asked
        try:
            async with asyncio.timeout(self._wait):
                out_reader, out_writer = await self._line(f"{host} {port}\n".encode())
                answer = (await out_reader.readuntil(b"\n")).decode("utf-8", "replace").strip()
        except TimeoutError:
            await _refuse(writer, "504 Gateway Timeout", "the gateway has no line for this")
            return
        try:
            if not answer.startswith("+"):
                await _refuse(writer, "403 Forbidden", answer[1:] or "the gateway refuses this host")
                return
            if forward is None:
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                out_writer.write(forward)
            await asyncio.gather(_pump(reader, out_writer), _pump(out_reader, writer))
        finally:
            out_writer.close()

    async def _line(self, asked: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A line that takes this; one whose other end has gone is passed over."""
        while True:
            async with self._more:
                await self._more.wait_for(lambda: self._lines)
                reader, writer = self._lines.popleft()
            if reader.at_eof() or writer.is_closing():
                writer.close()
                continue
            writer.write(asked)
            await writer.drain()
            return reader, writer


def _destination(head: bytes) -> tuple[str, int, bytes | None] | None:
    """Host, port and, for plain http, the request as the server is to see it. `None` for what is no proxy request."""
    first, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = first.decode("ascii").split(" ")
    except ValueError:
        return None
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        return (host.strip("[]"), int(port), None) if _plain(host) and port.isdigit() else None
    if not target.startswith("http://"):
        return None
    authority, _, path = target[7:].partition("/")
    host, _, port = authority.rpartition(":") if authority.rpartition(":")[2].isdigit() else (authority, "", "80")
    if not _plain(host):
        return None
    kept = [line for line in rest.split(b"\r\n") if line and not line.lower().startswith((b"proxy-", b"connection:"))]
    lines = [f"{method} /{path} {version}".encode(), *kept, b"Connection: close", b"", b""]
    return host.strip("[]"), int(port), b"\r\n".join(lines)


def _plain(host: str) -> bool:
    return bool(host) and all(letter.isalnum() or letter in ".-_:[]" for letter in host)


async def _refuse(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    body = f"{reason}\n".encode()
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n".encode()
        + b"Connection: close\r\n\r\n"
        + body
    )
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
