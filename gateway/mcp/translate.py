"""Between the eras: requests on their way up, answers on their way down.

Only the members that the other era does not know are added or taken away; everything else stays the bytes it was.
Source: specification 2026-07-28, basic (results, `_meta`) and versioning; DESIGN §5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import Message, Params, decode_error, decode_params, encode
from registry.core.version import VERSION

_CACHED = frozenset({"resources/read"})
_MODERN_ONLY = ("resultType", "ttlMs", "cacheScope")
CLIENT = {"name": "gatehouse", "version": VERSION}
"""How the gateway introduces itself to servers."""
_CLIENT_INFO = encode(CLIENT)

Rewrite = Callable[[Message], bytes]


def stamp(params: Params, capabilities: bytes) -> Params:
    """A legacy client's parameters for a modern server: the version and capabilities travel with the request."""
    meta = decode_params(params["_meta"]) if "_meta" in params else {}
    meta[protocol.META_VERSION] = msgspec.Raw(encode(protocol.MODERN))
    meta[protocol.META_CAPABILITIES] = msgspec.Raw(capabilities)
    meta[protocol.META_CLIENT_INFO] = msgspec.Raw(_CLIENT_INFO)
    return {**params, "_meta": msgspec.Raw(encode(meta))}


def unstamp(params: Params) -> Params:
    """A modern client's parameters for a legacy server: without what that era agrees on once per session."""
    if "_meta" not in params:
        return params
    meta = {name: value for name, value in decode_params(params["_meta"]).items() if not name.startswith(protocol.META)}
    rest = {name: value for name, value in params.items() if name != "_meta"}
    return {**rest, "_meta": msgspec.Raw(encode(meta))} if meta else rest


def to_modern(method: str, identifier: bytes) -> Rewrite:
    """Makes a modern answer with the client's id of a legacy server's."""
    extra = b'"resultType":"complete"' + (b',"ttlMs":0,"cacheScope":"private"' if method in _CACHED else b"")

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            return _error(identifier, _error_for_modern(message.error))
        result = bytes(message.result).strip()
        joined = b"{" + extra + (b"}" if result[1:].lstrip().startswith(b"}") else b"," + result[1:])
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, joined)

    return rewrite


def to_legacy(identifier: bytes) -> Rewrite:
    """Makes a legacy answer with the client's id of a modern server's."""

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            return _error(identifier, message.error)
        result = decode_params(message.result)
        for name in _MODERN_ONLY:
            result.pop(name, None)
        if "_meta" in result:
            meta = decode_params(result["_meta"])
            if meta.pop(protocol.META_SERVER_INFO, None) is not None:
                result["_meta"] = msgspec.Raw(encode(meta))
            if not meta:
                del result["_meta"]
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, encode(result))

    return rewrite


def with_id(identifier: bytes) -> Rewrite:
    """Gives an answer the client's id back, and changes nothing else."""

    def rewrite(message: Message) -> bytes:
        if bytes(message.error):
            return _error(identifier, message.error)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, bytes(message.result))

    return rewrite


def _error(identifier: bytes, error: msgspec.Raw) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, bytes(error))


def _error_for_modern(raw: msgspec.Raw) -> msgspec.Raw:
    error = decode_error(raw)
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
