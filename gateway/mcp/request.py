"""One request of a client, its envelope and headers checked: what the router is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.mcp.catalog import View
    from gateway.mcp.envelope import Message, Params
    from gateway.mcp.flights import Receive
    from gateway.mcp.headers import McpHeaders
    from gateway.mcp.session import LegacySession
    from registry.identity.principal import Principal


@dataclass(slots=True)
class Request:
    """A request of either era.

    Args:
        capabilities: what the client declared, as JSON.
        receive: to learn that the client has gone.
    """

    principal: Principal
    view: View
    message: Message
    params: Params
    modern: bool
    session: LegacySession | None
    headers: McpHeaders
    capabilities: bytes
    receive: Receive | None
    size: int
    log_level: str | None = None

    @property
    def id(self) -> bytes:
        return bytes(self.message.id)
