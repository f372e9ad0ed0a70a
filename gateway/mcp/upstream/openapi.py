"""REST services as upstreams: a tool's call becomes one HTTP request, its response the tool's result.

Which request, says the server's stored `Operation`s (`registry.servers.operations`). What the service answers is never
an error of the protocol: an answer that is no success is a result with `isError`. Source: OpenAPI 3.1.1, Parameter
Object (styles); MCP specification, server/tools (content).
"""

from __future__ import annotations

import base64
import binascii
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

import msgspec

from gateway.mcp import envelope, protocol, translate
from gateway.mcp.envelope import ProtocolError, decode_params, encode
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing
from registry.core.egress import (
    EgressFailed,
    EgressRefused,
    EgressTooLarge,
    EgressUnreachable,
    HeaderInvalid,
    Response,
    UrlInvalid,
    vet_url,
)

if TYPE_CHECKING:
    from registry.core.egress import Egress
    from registry.servers.connection import Connection
    from registry.servers.operations import Body, Operation, Parameter

MAX_ANSWER = 8 * 1024 * 1024
MAX_EXCERPT = 4000
"""Characters of an answer that was no success."""
REDIRECTS = 3
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json")


class _Refused(Exception):
    """Arguments from which no request can be made; the text is for whoever gave them."""


class OpenApiUpstream:
    """One REST service."""

    def __init__(self, connection: Connection, egress: Egress) -> None:
        assert connection.url is not None
        self._slug = connection.slug
        self._base = connection.url.rstrip("/")
        self._target = vet_url(connection.url)
        self._headers = connection.headers
        self._fixed = frozenset(name.lower() for name, _ in connection.headers)
        self._deadlines = connection.deadlines
        self._operations = {operation.tool: operation for operation in connection.operations}
        self._egress = egress

    async def request(self, outgoing: Outgoing) -> Answer:
        operation = self._operations.get(outgoing.name or "")
        if outgoing.method != "tools/call" or operation is None:
            raise ProtocolError(protocol.METHOD_NOT_FOUND, f"{self._slug} does not offer {outgoing.method}.")
        healthy = True
        try:
            result, healthy = await self._call(operation, _arguments(outgoing.params.get("arguments")))
        except _Refused as error:
            result = _failed(str(error))
        answer = Answer(body=envelope.result(outgoing.id, result), healthy=healthy)
        message = envelope.decode_message(answer.body)
        answer.judge(message)
        if outgoing.modern:
            answer.body = translate.to_modern(outgoing.method, outgoing.id)(message)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        """A REST service hears no notifications."""

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> None:
        """A REST service announces nothing."""

    async def reach(self) -> None:
        """Look whether the service is there.

        Raises:
            EgressRefused, EgressFailed: it is not.
        """
        await self._egress.client.request(
            "HEAD", self._target, headers=dict(self._headers), timeout=self._deadlines.first_byte
        )

    async def close(self) -> None:
        """Connections belong to the egress client."""

    async def _call(self, operation: Operation, arguments: dict[str, msgspec.Raw]) -> tuple[bytes, bool]:
        """The result, and whether the service is in order: a status of 500 and above says that it is not."""
        _check(operation, arguments)
        values = {
            parameter: msgspec.json.decode(arguments[parameter.argument])
            for parameter in operation.parameters
            if parameter.argument in arguments
        }
        url = self._base + _path(operation.path, values) + _query(values)
        headers = self._request_headers(values)
        data = None
        if operation.body is not None and operation.body.argument in arguments:
            headers["Content-Type"] = operation.body.content_type
            data = _body(operation.body, arguments[operation.body.argument])
        try:
            response = await self._egress.client.request(
                operation.method,
                url,
                headers=headers,
                data=data,
                timeout=self._deadlines.total,
                max_bytes=MAX_ANSWER,
                follow_redirects=REDIRECTS if operation.method == "GET" else 0,
            )
        except (HeaderInvalid, UrlInvalid) as error:
            raise _Refused(error.message) from None
        except (EgressRefused, EgressUnreachable) as error:
            raise NotSent(self._slug, error.message, blames=isinstance(error, EgressUnreachable)) from None
        except EgressTooLarge:
            return _failed(f"It was carried out, but its answer is larger than {MAX_ANSWER // 1024 // 1024} MiB."), True
        except EgressFailed as error:
            raise OutcomeUnknown(self._slug, error.message) from None
        return _result(operation, response), response.status < 500

    def _request_headers(self, values: dict[Parameter, Any]) -> dict[str, str]:
        """The call's own headers, then the registered ones, which no argument can replace."""
        headers: dict[str, str] = {"Accept": "application/json, */*;q=0.5"}
        cookies: list[str] = []
        for parameter, value in values.items():
            if parameter.location == "header" and parameter.name.lower() not in self._fixed:
                headers[parameter.name] = _simple(parameter, value)
            elif parameter.location == "cookie" and "cookie" not in self._fixed:
                cookies.append(f"{parameter.name}={quote(_simple(parameter, value), safe='')}")
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        kept = {name: value for name, value in headers.items() if name.lower() not in self._fixed}
        return {**kept, **dict(self._headers)}


# -- the request


def _arguments(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    try:
        return {} if raw is None else decode_params(raw)
    except msgspec.DecodeError:
        raise _Refused("The arguments must be an object.") from None


def _check(operation: Operation, arguments: dict[str, msgspec.Raw]) -> None:
    known = {parameter.argument for parameter in operation.parameters}
    needed = [parameter.argument for parameter in operation.parameters if parameter.required]
    if operation.body is not None:
        known.add(operation.body.argument)
        needed += [operation.body.argument] if operation.body.required else []
    if missing := [name for name in needed if name not in arguments]:
        raise _Refused(f"Missing arguments: {', '.join(missing)}.")
    if unknown := sorted(arguments.keys() - known):
        raise _Refused(f"Unknown arguments: {', '.join(unknown)}. Known are: {', '.join(sorted(known)) or 'none'}.")


def _path(template: str, values: dict[Parameter, Any]) -> str:
    given = {parameter.name: (parameter, value) for parameter, value in values.items() if parameter.location == "path"}

    def written(found: re.Match[str]) -> str:
        text = _simple(*given[found[1]])
        # Encoded or not, a service may take these for a step to another of its paths.
        if not text or any(step in (".", "..") for step in re.split(r"[/\\]", text)):
            raise _Refused(f"The argument {given[found[1]][0].argument} must not be empty, '.' or '..'.")
        return quote(text, safe="")

    path = _TEMPLATE.sub(written, template)
    if any(step in (".", "..") for step in path.split("/")):
        raise _Refused("The arguments make a path that leads elsewhere.")
    return path


def _query(values: dict[Parameter, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for parameter, value in values.items():
        if parameter.location == "query":
            pairs += _query_pairs(parameter, value)
    return "?" + urlencode(pairs, quote_via=quote) if pairs else ""


def _query_pairs(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    name, style = parameter.name, parameter.style
    if style == "json":
        return [(name, encode(value).decode())]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        if style == "deepObject":
            return [(f"{name}[{key}]", _text(item)) for key, item in members]
        if parameter.explode:
            return [(key, _text(item)) for key, item in members]
        return [(name, ",".join(f"{key},{_text(item)}" for key, item in members))]
    if isinstance(value, list):
        items = [_text(item) for item in cast("list[Any]", value)]
        if parameter.explode:
            return [(name, item) for item in items]
        return [(name, {"spaceDelimited": " ", "pipeDelimited": "|"}.get(style, ",").join(items))]
    return [(name, _text(value))]


def _simple(parameter: Parameter, value: Any) -> str:
    """A value in the style `simple`, which paths, headers and cookies have."""
    if parameter.style == "json":
        return encode(value).decode()
    if isinstance(value, list):
        return ",".join(_text(item) for item in cast("list[Any]", value))
    if isinstance(value, dict):
        between = "=" if parameter.explode else ","
        return ",".join(f"{key}{between}{_text(item)}" for key, item in cast("dict[str, Any]", value).items())
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else encode(value).decode()


def _body(body: Body, raw: msgspec.Raw) -> bytes:
    if body.kind == "json":
        return bytes(raw)
    value = msgspec.json.decode(raw)
    if body.kind == "form":
        if not isinstance(value, dict):
            raise _Refused(f"The argument {body.argument} must be an object.")
        members = cast("dict[str, Any]", value).items()
        pairs = [
            (key, _text(item))
            for key, below in members
            for item in (cast("list[Any]", below) if isinstance(below, list) else [below])
        ]
        return urlencode(pairs).encode()
    if not isinstance(value, str):
        raise _Refused(f"The argument {body.argument} must be text.")
    if body.kind == "text":
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise _Refused(f"The argument {body.argument} must be base64.") from None


# -- the answer


def _result(operation: Operation, response: Response) -> bytes:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not response.ok:
        return _failed(
            f"HTTP {response.status} {_phrase(response.status)}: {response.text()[:MAX_EXCERPT]}".rstrip(": ")
        )
    if not response.body:
        structured = b"{}" if operation.structured else None
        return _succeeded([_text_content(f"HTTP {response.status} {_phrase(response.status)}")], structured)
    if _JSON_TYPE.fullmatch(kind):
        structured = _object(response.body)
        if structured is None and operation.structured:
            return _failed(f"It answered something else than its description says: {response.text()[:MAX_EXCERPT]}")
        return _succeeded([_text_content(response.text())], structured)
    content = (
        _text_content(response.text()) if kind.startswith("text/") or kind.endswith("xml") else _binary(kind, response)
    )
    if operation.structured:
        return _failed(f"It answered {kind or 'without a type'}, where its description says JSON.")
    return _succeeded([content], None)


def _object(body: bytes) -> bytes | None:
    """The body, where it is a JSON object."""
    try:
        decode_params(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return body


def _binary(kind: str, response: Response) -> dict[str, Any]:
    data = base64.b64encode(response.body).decode()
    family = kind.partition("/")[0]
    if family in ("image", "audio"):
        return {"type": family, "data": data, "mimeType": kind}
    # Without its query, which may hold a credential.
    resource = {"uri": response.url.partition("?")[0], "mimeType": kind or "application/octet-stream", "blob": data}
    return {"type": "resource", "resource": resource}


def _text_content(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _succeeded(content: list[dict[str, Any]], structured: bytes | None) -> bytes:
    result: dict[str, Any] = {"content": content}
    if structured is not None:
        result["structuredContent"] = msgspec.Raw(structured)
    return encode({**result, "isError": False})


def _failed(why: str) -> bytes:
    return encode({"content": [_text_content(why)], "isError": True})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
