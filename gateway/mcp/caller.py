"""The in-process door to what the catalog offers: for callers inside the gateway that speak no MCP themselves.

`ToolCaller` is what REST, agents and the like are given, each through a Protocol of its own. A call made here is a
modern request of a client without capabilities, so it passes the policies, budgets and records of every other door
(`gateway.mcp.router`); what would be a JSON-RPC error is raised as an error with an HTTP status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from gateway.mcp import headers, protocol, translate
from gateway.mcp.envelope import (
    Message,
    Params,
    ProtocolError,
    decode_error,
    decode_message,
    decode_params,
    encode,
    text_param,
)
from gateway.mcp.flights import ClientGone
from gateway.mcp.request import Request
from gateway.mcp.upstream.probe import whole
from registry.core.errors import Conflict, Forbidden, GatehouseError, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from gateway.mcp.catalog import View
    from gateway.mcp.flights import Receive
    from gateway.mcp.router import Router
    from registry.identity.principal import Principal

_ID = b"1"
_NO_CAPABILITIES = b"{}"
_complete = translate.to_legacy(_ID)


class ToolUnknown(NotFound):
    """No tool of that name, or none that the caller may see."""


class ServerNotServing(NotFound):
    """No active server of that id."""


class ArgumentsInvalid(Invalid):
    """The gateway or the server did not accept the parameters."""


class CallForbidden(Forbidden):
    """A policy does not let this caller make this call."""


class CallOverBudget(GatehouseError):
    status = 402
    code = "BUDGET_EXCEEDED"
    title = "Payment Required"


class CallRateLimited(GatehouseError):
    status = 429
    code = "RATE_LIMIT_EXCEEDED"
    title = "Too Many Requests"


class CallsStopped(Unavailable):
    """An emergency stop is in force."""

    code = "EMERGENCY_STOP"


class CallNotSent(Unavailable):
    """The server has not seen the call: trying again is safe."""

    code = "NOT_SENT"


class CallOutcomeUnknown(GatehouseError):
    """The server may have carried out the call."""

    status = 502
    code = "OUTCOME_UNKNOWN"
    title = "Bad Gateway"


class CallHeld(Conflict):
    """Waits for a person: an approval, or a definition that has changed. `details.code` says which."""

    code = "APPROVAL_REQUIRED"


class CallFailed(GatehouseError):
    """The server answered with an error; `details` holds it."""

    status = 502
    code = "UPSTREAM_ERROR"
    title = "Bad Gateway"


class CallAbandoned(GatehouseError):
    """Whoever asked has gone; the status is never seen, only logged."""

    status = 499
    code = "CLIENT_CLOSED_REQUEST"
    title = "Client Closed Request"


_BY_CODE: dict[int, type[GatehouseError]] = {
    protocol.EMERGENCY_STOP: CallsStopped,
    protocol.BUDGET_EXCEEDED: CallOverBudget,
    protocol.RATE_LIMITED: CallRateLimited,
    protocol.NOT_SENT: CallNotSent,
    protocol.OUTCOME_UNKNOWN: CallOutcomeUnknown,
    protocol.APPROVAL_REQUIRED: CallHeld,
    protocol.DEFINITION_HELD: CallHeld,
}
_BY_STATUS: dict[int, type[GatehouseError]] = {403: CallForbidden, 404: ToolUnknown}


class ToolCaller:
    def __init__(self, router: Router) -> None:
        self._router = router

    def tools(self, principal: Principal) -> list[bytes]:
        """The definition of each tool that `principal` may see, as JSON, by its name on `/mcp`; in that order."""
        view = self._view(principal, None)
        return [entry.definition.listed(name, modern=True) for name, entry in view.entries["tool"].items()]

    async def call(
        self,
        principal: Principal,
        name: str,
        arguments: bytes,
        *,
        request_id: str | None = None,
        receive: Receive | None = None,
    ) -> bytes:
        """Call a tool; gives the JSON of its result: `content`, `structuredContent`, `isError`.

        Args:
            name: as `/mcp` lists it.
            arguments: a JSON object.
            request_id: kept in the call's record.
            receive: of the caller's own connection, so that the call ends when its client goes away.

        Raises:
            ToolUnknown, ArgumentsInvalid, CallForbidden, CallOverBudget, CallRateLimited, CallsStopped, CallHeld:
                nothing was called.
            CallNotSent, CallOutcomeUnknown, CallFailed, CallAbandoned: there is no result.
        """
        view = self._view(principal, None)
        if view.find("tool", name) is None:
            raise ToolUnknown(f"There is no tool {name!r} that you may use: GET /v1/tools lists those that you may.")
        _object(arguments)
        params = {"name": msgspec.Raw(encode(name)), "arguments": msgspec.Raw(arguments)}
        return await self._send(principal, view, "tools/call", params, request_id, receive)

    async def ask(
        self,
        principal: Principal,
        server_id: str,
        method: str,
        params: bytes,
        *,
        request_id: str | None = None,
        receive: Receive | None = None,
    ) -> bytes:
        """One request to one server, with its own names: a call, a read, a get or a list; gives the result's JSON.

        Args:
            params: a JSON object.

        Raises:
            ServerNotServing: the organisation has no active server of that id.
            GatehouseError: as `call`.
        """
        servers = self._router.catalog.of(principal.org_id).servers.values()
        slug = next((server.slug for server in servers if server.id == server_id), None)
        if slug is None:
            raise ServerNotServing("MCP server not found")
        return await self._send(principal, self._view(principal, slug), method, _object(params), request_id, receive)

    def _view(self, principal: Principal, slug: str | None) -> View:
        view = self._router.catalog.of(principal.org_id).view(slug, principal)
        if view is None:
            raise ServerNotServing("There is no active server of that id.")
        return view

    async def _send(
        self,
        principal: Principal,
        view: View,
        method: str,
        params: Params,
        request_id: str | None,
        receive: Receive | None,
    ) -> bytes:
        stamped = translate.stamp(params, _NO_CAPABILITIES)
        message = Message("2.0", method, id=msgspec.Raw(_ID), params=msgspec.Raw(encode(stamped)))
        try:
            mirrored = _mirrored(view, method, params)
            given = headers.McpHeaders(params=mirrored, request_id=request_id.encode() if request_id else None)
            size = len(bytes(message.params))
            request = Request(principal, view, message, stamped, True, None, given, _NO_CAPABILITIES, receive, size)
            answer = await whole(await self._router.handle(request))
        except ClientGone:
            raise CallAbandoned("The client has gone.") from None
        except ProtocolError as error:
            raise _refusal(error) from None
        if bytes(answer.error):
            raise _failure(answer)
        try:
            return bytes(decode_message(_complete(answer)).result)
        except translate.InputRequired:
            raise CallFailed("It asks for further input, which only MCP clients can give: call it over MCP.") from None


def _object(text: bytes) -> Params:
    try:
        return decode_params(text)
    except (msgspec.DecodeError, RecursionError):
        raise ArgumentsInvalid("The parameters must be a JSON object.") from None


def _mirrored(view: View, method: str, params: Params) -> dict[bytes, bytes]:
    """What an HTTP client would have to send as `Mcp-Param-*` beside these arguments."""
    entry = view.find("tool", text_param(params, "name")) if method == "tools/call" else None
    if entry is None or not entry.definition.param_headers:
        return {}
    values = headers.mirrored_params(entry.definition.param_headers, params)
    return {token.lower().encode(): headers.encode_value(value).encode() for token, value in values.items()}


def _refusal(error: ProtocolError) -> GatehouseError:
    data: object = error.data
    details = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    kind = _BY_CODE.get(error.code) or _BY_STATUS.get(error.status or 0)
    if kind is not None:
        return kind(error.message, details=details)
    if error.code in (protocol.INVALID_PARAMS, protocol.INVALID_REQUEST, protocol.METHOD_NOT_FOUND):
        return ArgumentsInvalid(error.message)
    return CallFailed(error.message, details={**details, "code": error.code})


def _failure(answer: Message) -> GatehouseError:
    error = decode_error(answer.error)
    if error.code == protocol.INVALID_PARAMS:
        return ArgumentsInvalid(error.message)
    details: dict[str, Any] = {"code": error.code}
    if bytes(error.data):
        details["data"] = msgspec.json.decode(error.data)
    return CallFailed(error.message or "The server answered with an error.", details=details)
