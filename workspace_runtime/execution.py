"""A command in a container, as its caller holds it: output to iterate over, input to write, a code at the end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from workspace_runtime.runtime import EngineUnavailable, Output

HIGH_WATER = 1024 * 1024
"""Bytes that wait to be read at which the sender is told to wait."""


def _never(held: bool) -> None:
    return


class CarriedExecution:
    """The caller's side of a command whose streams come over a transport."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.ended = False
        self.writable = asyncio.Event()
        self.writable.set()
        self._pieces: asyncio.Queue[Output | None] = asyncio.Queue()
        self._waiting = 0
        self._transport: asyncio.WriteTransport | None = None
        self._pause: Callable[[bool], None] = _never
        self._code: Callable[[], Awaitable[int]] | None = None

    def carry(
        self, transport: asyncio.WriteTransport, code: Callable[[], Awaitable[int]], pause: Callable[[bool], None]
    ) -> None:
        """Take the transport that input goes to, the way to ask for the exit code, and to hold the output back."""
        self._transport = transport
        self._code = code
        self._pause = pause

    def said(self, output: Output | None) -> None:
        """Take a piece of output; `None` at its end."""
        self.ended = self.ended or output is None
        self._pieces.put_nowait(output)
        if output is not None:
            self._waiting += len(output.data)
            if self._waiting > HIGH_WATER:
                self._pause(True)

    def __aiter__(self) -> AsyncIterator[Output]:
        return self._read()

    async def _read(self) -> AsyncIterator[Output]:
        while (piece := await self._pieces.get()) is not None:
            self._waiting -= len(piece.data)
            if self._waiting <= HIGH_WATER:
                self._pause(False)
            yield piece
        self._pieces.put_nowait(None)  # who asks again is at the end again

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise EngineUnavailable("the command's streams are closed")
        self._transport.write(data)

    async def drain(self) -> None:
        await self.writable.wait()

    def write_eof(self) -> None:
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    async def exit_code(self) -> int:
        async for _ in self:
            pass
        assert self._code
        return await self._code()
