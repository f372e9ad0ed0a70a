"""The port to an upstream server: what the router asks of every transport, and how a call can fail.

Implementations: `http` (streamable HTTP, both eras), `sse` (its predecessor), `stdio` (a supervised program),
`openapi` (a REST service), `local` (the gateway's own tools).
Each ends every call in one of three ways: done (an `Answer`), `NotSent`, or `OutcomeUnknown`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import Message, Params, ProtocolError, decode_error, decode_tool_result

if TYPE_CHECKING:
    from gateway.mcp.session import LegacySession
    from registry.identity.principal import Principal


class UpstreamFailure(ProtocolError):
    """A call that did not end in an answer from the server.

    Args:
        blames: it says that the server is in trouble; a refusal of this one call does not.
    """

    kind = "unknown"
    blames = True

    @property
    def reason(self) -> str:
        """What happened, without the words around it."""
        return self.data["reason"]


class NotSent(UpstreamFailure):
    """The server has not seen the call: trying again is safe."""

    kind = "not_sent"

    def __init__(self, server: str, why: str, *, blames: bool = True) -> None:
        super().__init__(
            protocol.NOT_SENT,
            f"{server} was not reached, the call has not been sent: {why}",
            data={"code": "NOT_SENT", "server": server, "reason": why},
        )
        self.blames = blames


class CredentialsRefused(NotSent):
    """The server wants other credentials than those that it was shown.

    Args:
        status: 401 or 403.
        challenge: its `WWW-Authenticate`.
    """

    def __init__(self, server: str, status: int, challenge: bytes) -> None:
        super().__init__(server, f"it refused the gateway's credentials (HTTP {status})", blames=False)
        self.status = status
        self.challenge = challenge.decode("latin-1")


class OutcomeUnknown(UpstreamFailure):
    """The server may have carried out the call: trying again may do it twice."""

    def __init__(self, server: str, why: str) -> None:
        super().__init__(
            protocol.OUTCOME_UNKNOWN,
            f"{server} did not answer, it is unknown whether the call was carried out: {why}",
            data={"code": "OUTCOME_UNKNOWN", "server": server, "reason": why},
        )


@dataclass(slots=True)
class Outgoing:
    """One request on its way to an upstream.

    Args:
        id: the client's request id, as JSON.
        params: with the upstream's own names; `_meta` as the client sent it.
        name: the value that `Mcp-Name` mirrors, if the method has one.
        modern: the client speaks the modern era.
        session: the client's session in the legacy era.
        capabilities: the client's capabilities, as JSON.
        param_headers: `Mcp-Param-*` headers, ready to be written.
        origin: the server's name, where people must be told which of several asks for something.
        log_level: from which on the client wants to hear log messages; `None` for none.
        sent: the server may have seen it; not so while its transport still opens a session for it.
    """

    principal: Principal
    id: bytes
    method: str
    params: Params
    name: str | None
    modern: bool
    session: LegacySession | None
    capabilities: bytes
    param_headers: bytes = b""
    origin: str | None = None
    log_level: str | None = None
    sent: bool = True

    def late(self, server: str) -> NotSent | OutcomeUnknown:
        """What the request fails with when its deadline has come."""
        if not self.sent:
            return NotSent(server, "it did not open a session within its deadline")
        return OutcomeUnknown(server, "it did not answer within its deadline")


@dataclass(slots=True)
class Answer:
    """What goes back to the client: a whole body, or a stream of server-sent events.

    Args:
        status: HTTP status.
        body: a JSON-RPC message, empty if there is none or if `stream` is given.
        before: whole events to go ahead of `body`, which make a stream of it that has its end already; behind them
            there may be the id of its event.
        stream: whole events; closing it cancels the call upstream.
        large: `stream` is not events but the pieces of one large JSON body.
        size: of that body in bytes, where the server told it.
        patient: a person may be thinking about it, so its deadlines are longer.
        outcome: `ok`, `tool_error` or `error`; of a stream it is known when the stream has ended.
        error_code: of a JSON-RPC error.
        id: of the request that `stream` answers, as JSON, so that a failure on the way answers it as well.
        healthy: the server is not in trouble, whatever it said of this call.
        step_up: the scope that the caller's token lacks and that a person could grant it.
    """

    status: int = 200
    body: bytes = b""
    before: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    large: bool = False
    size: int | None = None
    patient: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    outcome: str = "ok"
    error_code: int | None = None
    id: bytes = b""
    healthy: bool = True
    step_up: str | None = None

    def judge(self, message: Message) -> None:
        """Note how the call ended, from its answer. What cannot be read raises `envelope.UNREADABLE`."""
        if bytes(message.error):
            if not bytes(message.error).lstrip().startswith(b"{"):
                raise msgspec.ValidationError("an error is an object")
            self.outcome = "error"
            self.error_code = decode_error(message.error).code
            return
        if decode_tool_result(message.result).isError:
            self.outcome = "tool_error"


class Upstream(Protocol):
    async def request(self, outgoing: Outgoing) -> Answer:
        """Send a request and give its answer, in the client's era and with the client's id.

        Raises:
            NotSent, OutcomeUnknown: there is no answer.
            asyncio.CancelledError: the caller gave up; the server has been told.
        """
        ...

    async def notify(self, outgoing: Outgoing) -> None:
        """Pass on a client's notification, where the server is listening for it. Nobody waits until it has arrived."""
        ...

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message] | None:
        """What the server announces of its own accord: changed lists, and changes of these resources or tasks.

        First comes a message without a method, as soon as the server is listened to. The iterator ends or raises when
        the line breaks. `None` where there is nothing to hear. Tasks are the modern era's, and have lines of their own.
        """
        ...

    async def close(self) -> None: ...
