"""What the server offers at the moment, and whom it tells when that changes.

Legacy clients hear of changes on the standing stream of their session, modern ones on `subscriptions/listen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from tests.support.servers.conformance.tasks import Tasks

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


@dataclass
class Session:
    """A legacy client's session.

    Args:
        line: reaches the client outside of any call.
    """

    line: ServerSession
    level: str = "debug"
    watched: set[str] = field(default_factory=set)


class Offer:
    """The changing part of the server."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.tasks = Tasks()
        self.sessions: dict[str, Session] = {}
        self.changed_tools = False
        self.changed_prompts = False
        self.versions = 0
        """How often the watched resource was changed."""
        self.waiting = self.cancelled = 0
        """Calls that go on until they are cancelled, and those that were."""

    def session_of(self, ctx: Any) -> Session | None:
        """The legacy session of a request."""
        identifier = ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None
        return self.sessions.setdefault(identifier, Session(ctx.session)) if identifier else None

    def wants_log(self, ctx: Any, level: str) -> bool:
        session = self.session_of(ctx)
        return session is None or LEVELS.index(level) >= LEVELS.index(session.level)

    async def change_tools(self) -> None:
        self.changed_tools = not self.changed_tools
        await self._publish(ToolsListChanged())
        for session in tuple(self.sessions.values()):
            await session.line.send_tool_list_changed()

    async def change_prompts(self) -> None:
        self.changed_prompts = not self.changed_prompts
        await self._publish(PromptsListChanged())
        for session in tuple(self.sessions.values()):
            await session.line.send_prompt_list_changed()

    async def update_resource(self, uri: str) -> None:
        self.versions += 1
        await self._publish(ResourceUpdated(uri=uri))
        for session in tuple(self.sessions.values()):
            if uri in session.watched:
                await session.line.send_resource_updated(uri)

    async def _publish(self, event: ServerEvent) -> None:
        await self.bus.publish(event)
