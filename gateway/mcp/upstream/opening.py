"""Waiting for what several calls need at once, such as a session or a started program, and one of them opens."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from gateway.mcp.upstream.port import NotSent

T = TypeVar("T")


async def opened(opening: asyncio.Task[T], server: str) -> T:
    """What is being opened; it goes on for the others when one of those who wait is cancelled.

    Raises:
        NotSent: the opening itself was cancelled, because the server was removed or is reached in another way now.
    """
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if not opening.cancelled() or (waiting is not None and waiting.cancelling()):
            raise
        raise NotSent(server, "it was removed or changed while it was being opened", blames=False) from None
