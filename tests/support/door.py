"""A way into the gateway for clients that cannot send a credential: adds one to every request that comes.

It reads the head of a request, asks for the connection to be closed after it, and passes the rest on as bytes, so that
streams flow both ways as they are. A client that leaves takes its connection to the gateway with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Door:
    """Listens on a loopback port of its own.

    Args:
        url: what lies behind; a client takes `self.url` in its place.
        key: sent as bearer token.
    """

    def __init__(self, url: str, key: str) -> None:
        self._behind = urlsplit(url)
        self._added = f"authorization: Bearer {key}\r\nconnection: close\r\n\r\n".encode()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = urlunsplit(self._behind._replace(netloc=f"127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            upstream, onwards = await asyncio.open_connection(self._behind.hostname, self._behind.port)
            lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
            onwards.write(b"\r\n".join(lines) + b"\r\n" + self._added)
            ways = [asyncio.create_task(_copy(reader, onwards)), asyncio.create_task(_copy(upstream, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            onwards.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
