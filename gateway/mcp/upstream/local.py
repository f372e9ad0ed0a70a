"""The gateway's own tools as one more upstream, in process.

The router treats it like any server, so its tools pass the same policies and records. What the tools do is not here:
they are in `mcp_tools`, reached through `LocalTools`, which `gateway.app` wires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.mcp import envelope, protocol, translate
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.upstream.port import Answer, Outgoing

if TYPE_CHECKING:
    import msgspec

    from registry.identity.principal import Principal

SLUG = "gatehouse"


class LocalTools(Protocol):
    """What the gateway offers itself."""

    def definitions(self) -> list[tuple[str, str, str]]:
        """Name, definition as JSON, and the permission that seeing and calling it needs, for each tool."""
        ...

    async def call(self, principal: Principal, name: str, arguments: bytes) -> bytes:
        """Carry out one call; the answer is the JSON of a tool result. Failures are results with `isError`."""
        ...


class LocalUpstream:
    def __init__(self, tools: LocalTools) -> None:
        self._tools = tools

    async def request(self, outgoing: Outgoing) -> Answer:
        if outgoing.method != "tools/call" or outgoing.name is None:
            raise ProtocolError(protocol.METHOD_NOT_FOUND, f"{SLUG} does not offer {outgoing.method}.")
        arguments: msgspec.Raw | None = outgoing.params.get("arguments")
        result = await self._tools.call(
            outgoing.principal, outgoing.name, bytes(arguments) if arguments is not None else b"{}"
        )
        answer = Answer(body=envelope.result(outgoing.id, result))
        message = envelope.decode_message(answer.body)
        answer.judge(message)
        if outgoing.modern:
            answer.body = translate.to_modern(outgoing.method, outgoing.id)(message)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        """Nothing here listens to notifications."""

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> None:
        """What is offered here changes with the gateway's version only."""

    async def close(self) -> None:
        """Nothing is open."""
