"""Between the eras: requests on their way up, answers on their way down.

Only the members that the other era does not know are added or taken away; everything else stays the bytes it was.
Source: specification 2026-07-28, basic (results, `_meta`) and versioning; DESIGN §5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import (
    ErrorObject,
    Message,
    Params,
    decode_error,
    decode_params,
    decode_text,
    encode,
    object_param,
)
from registry.core.version import VERSION

_CACHED = frozenset({"resources/read"})
_RETRIED = ("_meta", "inputResponses", "requestState")
_MODERN_ONLY = ("resultType", "ttlMs", "cacheScope")
_MODERN_NAMES = tuple(f'"{name}"'.encode() for name in _MODERN_ONLY)
CLIENT = {"name": "gatehouse", "version": VERSION}
"""How the gateway introduces itself to servers."""
_CLIENT_INFO = encode(CLIENT)
SERVER_INFO = encode({"name": "gatehouse", "title": "Gatehouse", "version": VERSION})
"""How it introduces itself to clients."""

Rewrite = Callable[[Message], bytes]


class InputRequired(Exception):
    """A modern server wants something from the client before it goes on.

    Args:
        requests: what it asks, by its own keys: the JSON of `method` and `params` each.
        state: to be given back with the answers, if there is one.
    """

    def __init__(self, requests: Params, state: msgspec.Raw | None) -> None:
        super().__init__("input required")
        self.requests = requests
        self.state = state


def stamp(params: Params, capabilities: bytes, log_level: str | None = None) -> Params:
    """A legacy client's parameters for a modern server: what was agreed once travels with the request."""
    meta = decode_params(params["_meta"]) if "_meta" in params else {}
    meta[protocol.META_VERSION] = msgspec.Raw(encode(protocol.MODERN))
    meta[protocol.META_CAPABILITIES] = msgspec.Raw(capabilities)
    meta[protocol.META_CLIENT_INFO] = msgspec.Raw(_CLIENT_INFO)
    if log_level is not None:
        meta[protocol.META_LOG_LEVEL] = msgspec.Raw(encode(log_level))
    return {**params, "_meta": msgspec.Raw(encode(meta))}


def unstamp(params: Params) -> Params:
    """A modern client's parameters for a legacy server: without what that era agrees on once per session."""
    if "_meta" not in params:
        return params
    meta = {name: value for name, value in decode_params(params["_meta"]).items() if not name.startswith(protocol.META)}
    rest = {name: value for name, value in params.items() if name not in _RETRIED}
    return {**rest, "_meta": msgspec.Raw(encode(meta))} if meta else rest


def to_modern(method: str, identifier: bytes, capabilities: bytes = b"{}") -> Rewrite:
    """Makes a modern answer with the client's id of a legacy server's.

    Args:
        capabilities: the client's.
    """
    extra = b'"resultType":"complete"' + (b',"ttlMs":0,"cacheScope":"private"' if method in _CACHED else b"")
    extra_object = b"{" + extra + b"}"

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            error = decode_error(message.error)
            if error.code == protocol.URL_ELICITATION_REQUIRED:
                return _visits_needed(identifier, error, capabilities)
            return _error(identifier, _error_for_modern(error, message.error))
        result = bytes(message.result).strip()
        if not result.startswith(b"{") or any(name in result for name in _MODERN_NAMES):
            # What is no object raises here, and no member is ever there twice.
            joined = encode({**decode_params(result), **decode_params(extra_object)})
        else:
            joined = b"{" + extra + (b"}" if result[1:].lstrip().startswith(b"}") else b"," + result[1:])
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, joined)

    return rewrite


def completed(method: str, message: Message) -> Rewrite | None:
    """What makes a modern server's answer whole that leaves out what is required; `None` if it is whole."""
    if not bytes(message.result) or b'"resultType"' in bytes(message.result):
        return None
    return to_modern(method, bytes(message.id))


def to_legacy(identifier: bytes) -> Rewrite:
    """Makes a legacy answer with the client's id of a modern server's. It raises `InputRequired` for what is none."""

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            return _error(identifier, message.error)
        result = decode_params(message.result)
        if bytes(result.get("resultType", b"")) == b'"input_required"':
            raise InputRequired(decode_params(result.get("inputRequests", b"{}")), result.get("requestState"))
        for name in _MODERN_ONLY:
            result.pop(name, None)
        if not bytes(result.get("structuredContent", b"{")).lstrip().startswith(b"{"):
            # This era has objects only; what it means is said in the content as well.
            del result["structuredContent"]
        if "_meta" in result:
            meta = decode_params(result["_meta"])
            if meta.pop(protocol.META_SERVER_INFO, None) is not None:
                result["_meta"] = msgspec.Raw(encode(meta))
            if not meta:
                del result["_meta"]
        return encode({"jsonrpc": "2.0", "id": msgspec.Raw(identifier), "result": result})

    return rewrite


def legacy_capabilities(capabilities: bytes) -> bytes:
    """A client's capabilities as a legacy server knows them: of the extensions, that era has only MCP Apps."""
    if b'"extensions"' not in capabilities:
        return capabilities
    fields = decode_params(msgspec.Raw(capabilities))
    extensions = object_param(fields, "extensions")
    del fields["extensions"]
    if protocol.APPS in extensions:
        fields["extensions"] = msgspec.Raw(encode({protocol.APPS: extensions[protocol.APPS]}))
    return encode(fields)


def input_required(requests: Mapping[str, Mapping[str, object]], state: str) -> bytes:
    """The result that asks a modern client."""
    return encode({"resultType": "input_required", "inputRequests": requests, "requestState": state})


def with_origin(method: str, params: Params, origin: str | None) -> Params:
    """A server's request for input; where several servers share an address, people are told which one asks."""
    if origin is None or method != "elicitation/create" or "message" not in params:
        return params
    with suppress(msgspec.DecodeError):
        return {**params, "message": msgspec.Raw(encode(f"[{origin}] {decode_text(params['message'])}"))}
    return params


def with_id(identifier: bytes) -> Rewrite:
    """Gives an answer the client's id back, and changes nothing else."""

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            return _error(identifier, message.error)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, bytes(message.result))

    return rewrite


def _error(identifier: bytes, error: msgspec.Raw) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, bytes(error))


_NEEDS_VISITS = b'{"requiredCapabilities":{"elicitation":{"url":{}}}}'


class _Visit(msgspec.Struct):
    """What a person has to visit before a call can be made, as a legacy server's error tells it."""

    url: str
    message: str = ""
    elicitationId: str = ""


class _Visits(msgspec.Struct):
    elicitations: list[_Visit] = []


def _visits_needed(identifier: bytes, error: ErrorObject, capabilities: bytes) -> bytes:
    """This era asks for a visit as for any other input: the call is made again afterwards."""
    if b'"elicitation"' not in capabilities:
        missing = {"code": protocol.MISSING_CAPABILITY, "message": error.message, "data": msgspec.Raw(_NEEDS_VISITS)}
        return _error(identifier, msgspec.Raw(encode(missing)))
    visits = msgspec.json.decode(error.data or b"{}", type=_Visits).elicitations
    asked = {
        visit.elicitationId or f"visit-{number}": {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": visit.message or error.message, "url": visit.url},
        }
        for number, visit in enumerate(visits, 1)
    }
    result = encode({"resultType": "input_required", "inputRequests": asked})
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, result)


def _error_for_modern(error: ErrorObject, raw: msgspec.Raw) -> msgspec.Raw:
    if error.code != protocol.RESOURCE_NOT_FOUND:
        return raw
    fields = {"code": protocol.INVALID_PARAMS, "message": error.message}
    if bytes(error.data):
        return msgspec.Raw(encode({**fields, "data": error.data}))
    return msgspec.Raw(encode(fields))


async def close(stream: AsyncIterator[bytes]) -> None:
    """End a stream early, which tells the server that nobody listens any more."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()
