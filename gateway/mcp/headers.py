"""MCP's HTTP headers: reading them, their value encoding, and the checks of the modern era against the body.

Source: specification 2026-07-28, transports/streamable-http (request headers, custom headers). A component that reads
the body must check that the headers agree with it; headers themselves are never trusted for policy.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from gateway.fields import once_per_head
from gateway.mcp import protocol
from gateway.mcp.envelope import UNREADABLE, Params, ProtocolError, decode_params, encode

RawHeaders = list[tuple[bytes, bytes]]

_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_NUMBER = re.compile(r"(-?[0-9]{1,16})(?:\.0+)?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MIRRORED_TYPES = frozenset({"string", "integer", "boolean"})
_PARAM = b"mcp-param-"
_MARK = len(_PARAM)
_WHITE = b" \t"
"""What the parser leaves around a value."""


@dataclass(slots=True)
class McpHeaders:
    """The headers that MCP gives a meaning; a name given twice is in `duplicate`."""

    version: bytes | None = None
    method: bytes | None = None
    name: bytes | None = None
    session_id: bytes | None = None
    last_event_id: bytes | None = None
    request_id: bytes | None = None
    params: Mapping[bytes, bytes] | None = None
    duplicate: bytes | None = None


_FIELDS = {
    b"mcp-protocol-version": "version",
    b"mcp-method": "method",
    b"mcp-name": "name",
    b"mcp-session-id": "session_id",
    b"last-event-id": "last_event_id",
    b"x-request-id": "request_id",
}


@once_per_head
def read(headers: RawHeaders) -> McpHeaders:
    """Pick MCP's headers out of a request's; names come in lower case, as ASGI promises."""
    fields = dict(headers)
    if len(fields) == len(headers):
        # None is there twice, as nearly always.
        return _picked(fields)
    found, params = McpHeaders(), dict[bytes, bytes]()
    for name, value in headers:
        attribute = _FIELDS.get(name)
        if attribute is not None:
            if getattr(found, attribute) is not None:
                found.duplicate = name
            setattr(found, attribute, value.strip(_WHITE))
        elif name.startswith(_PARAM):
            token = name[_MARK:]
            if token in params:
                found.duplicate = name
            params[token] = value.strip(_WHITE)
    found.params = params
    return found


def _picked(fields: dict[bytes, bytes]) -> McpHeaders:
    of = fields.get
    found = McpHeaders(
        of(b"mcp-protocol-version"),
        of(b"mcp-method"),
        of(b"mcp-name"),
        of(b"mcp-session-id"),
        of(b"last-event-id"),
        of(b"x-request-id"),
    )
    if found.version is not None:
        found.version = found.version.strip(_WHITE)
    if found.method is not None:
        found.method = found.method.strip(_WHITE)
    if found.name is not None:
        found.name = found.name.strip(_WHITE)
    if found.session_id is not None:
        found.session_id = found.session_id.strip(_WHITE)
    if found.last_event_id is not None:
        found.last_event_id = found.last_event_id.strip(_WHITE)
    if found.request_id is not None:
        found.request_id = found.request_id.strip(_WHITE)
    params = {name[_MARK:]: fields[name].strip(_WHITE) for name in fields if name[:_MARK] == _PARAM}
    found.params = params or None
    return found


def encode_value(value: str) -> str:
    """A value as a header carries it: what would not survive is wrapped in base64 with its sentinel."""
    if _PLAIN.fullmatch(value) and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: bytes) -> str | None:
    """The value that a header stands for; `None` for a malformed one, which then equals nothing."""
    text = value.decode("latin-1")
    wrapped = _SENTINEL.fullmatch(text)
    if wrapped is None:
        return text
    try:
        raw = base64.b64decode(wrapped[1], validate=True)
        return raw.decode() if base64.b64encode(raw).decode() == wrapped[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def check_mirrors(headers: McpHeaders, method: str, name: str | None) -> None:
    """That `Mcp-Method` and `Mcp-Name` say what the body says.

    Args:
        name: the body's value of what `Mcp-Name` mirrors, `None` where the method has none.

    Raises:
        ProtocolError: HEADER_MISMATCH.
    """
    if headers.duplicate is not None:
        raise _mismatch(f"The header {headers.duplicate.decode('latin-1')} was sent more than once.")
    if headers.method is None or headers.method.decode("latin-1") != method:
        raise _mismatch(f"Mcp-Method must be {method!r}, like the body's method.")
    if name is not None and (
        headers.name is None or (headers.name.decode("latin-1") != name and decode_value(headers.name) != name)
    ):
        raise _mismatch("Mcp-Name must equal the name or URI in the body.")


def _mismatch(message: str) -> ProtocolError:
    return ProtocolError(protocol.HEADER_MISMATCH, message, status=400)


# -- parameters mirrored into headers


def param_headers(schema: Any) -> dict[tuple[str, ...], str]:
    """The header token of each parameter that is mirrored, by its path of property names."""
    if schema is None:
        return {}
    return {
        path: token
        for path, node in _schema_nodes(schema)
        if path and isinstance(token := node.get("x-mcp-header"), str)
    }


def invalid_param_headers(schema: Any) -> bool:
    """Whether an annotation breaks the specification's rules, so that clients must drop the tool."""
    if schema is None:
        return False
    seen: set[str] = set()
    for path, node in _schema_nodes(schema):
        if "x-mcp-header" not in node:
            continue
        token = node["x-mcp-header"]
        if not path or not isinstance(token, str) or not _TOKEN.fullmatch(token) or token.lower() in seen:
            return True
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in _MIRRORED_TYPES:
            return True
        seen.add(token.lower())
    return False


def mirrored_params(declared: dict[tuple[str, ...], str], params: Params) -> dict[str, str]:
    """Header values, still unencoded, of the arguments that a tool wants mirrored.

    Raises:
        ProtocolError: the arguments hold what cannot be read, such as a number that is out of range.
    """
    arguments = _arguments(params)
    values = {token: _scalar(_at(arguments, path)) for path, token in declared.items()}
    return {token: value for token, value in values.items() if value is not None}


def _arguments(params: Params) -> Any:
    try:
        return msgspec.json.decode(params["arguments"]) if "arguments" in params else {}
    except (*UNREADABLE, RecursionError):
        raise ProtocolError(protocol.INVALID_PARAMS, "params.arguments cannot be read.") from None


def unambiguous(declared: dict[tuple[str, ...], str], params: Params) -> Params:
    """The same parameters, with each member on the way to a mirrored argument there once, as it was checked."""
    if "arguments" not in params:
        return params
    return {**params, "arguments": _once(params["arguments"], list(declared))}


def _once(raw: msgspec.Raw, paths: list[tuple[str, ...]]) -> msgspec.Raw:
    if not bytes(raw).lstrip().startswith(b"{"):
        return raw
    members = decode_params(raw)
    for name in {path[0] for path in paths if len(path) > 1} & members.keys():
        members[name] = _once(members[name], [path[1:] for path in paths if path[0] == name and len(path) > 1])
    return msgspec.Raw(encode(members))


def check_params(declared: dict[tuple[str, ...], str], headers: McpHeaders, params: Params) -> None:
    """That the `Mcp-Param-*` headers say what the arguments say.

    Raises:
        ProtocolError: HEADER_MISMATCH.
    """
    arguments, sent = _arguments(params), headers.params or {}
    for path, token in declared.items():
        value = _at(arguments, path)
        given, text = sent.get(token.lower().encode()), _scalar(value)
        if (given is None) != (text is None) or (given is not None and not _says(decode_value(given), text, value)):
            raise _mismatch(f"Mcp-Param-{token} must equal the argument that it mirrors.")


def _says(header: str | None, text: str | None, value: Any) -> bool:
    """Whether a header stands for an argument; a number may be written in more than one way, a text may not."""
    if header is None or header == text:
        return header is not None
    found = _NUMBER.fullmatch(header)
    return (
        found is not None and isinstance(value, int | float) and not isinstance(value, bool) and int(found[1]) == value
    )


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


_ONE = ("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames", "unevaluatedProperties")
_ONE_OF_LOGIC = ("not", "if", "then", "else", "contentSchema")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("patternProperties", "dependentSchemas", "$defs", "definitions")


def _schema_nodes(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Every schema within `root`, with its path where only `properties` lead to it. References are not followed."""
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, dict):
            continue
        node = cast("dict[str, Any]", value)
        yield path, node
        for name, below in _members(node.get("properties")):
            waiting.append(((*path, name) if path is not None else None, below))
        waiting.extend((None, node.get(keyword)) for keyword in (*_ONE, *_ONE_OF_LOGIC))
        for keyword in _MANY:
            several = node.get(keyword)
            waiting.extend((None, below) for below in (cast("list[Any]", several) if isinstance(several, list) else ()))
        for keyword in _NAMED:
            waiting.extend((None, below) for _, below in _members(node.get(keyword)))


def _members(value: Any) -> list[tuple[str, Any]]:
    return list(cast("dict[str, Any]", value).items()) if isinstance(value, dict) else []
