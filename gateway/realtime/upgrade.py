"""The WebSocket side of a connection, made when the first client asks for one: its vendor costs the start time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

MAX_MESSAGE = 64 * 1024
"""Clients have little to say here."""


def websocket_protocol(
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    _loop: asyncio.AbstractEventLoop | None = None,
) -> asyncio.Protocol:
    """For uvicorn's setting `ws`."""
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

    return WSProtocol(config, server_state, app_state, _loop)
