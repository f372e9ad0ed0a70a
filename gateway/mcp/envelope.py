"""The JSON-RPC envelope: what is read of a message, and how messages are written.

Only the envelope is ever parsed; `params` and `result` stay the bytes that were sent. A message is always rebuilt from
the parsed parts before it is forwarded, so that a duplicate key cannot mean one thing here and another upstream.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec

from gateway.mcp import protocol

ABSENT = msgspec.Raw()
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What decoding raises for bytes that are not what they should be; `Raw` parts are looked at only when decoded."""
Params = dict[str, msgspec.Raw]

_NULL = b"null"
_MAX_ID = 256
MAX_DEPTH = 64
"""Objects and lists within each other in what a client sends; servers behind may give up where this one does not."""
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_STEPS = bytes(byte for byte in range(256) if byte not in b"[{]}")


class Message(msgspec.Struct, gc=False):
    """A JSON-RPC message of any kind. Parts that are not there are empty."""

    jsonrpc: str = ""
    method: str = ""
    id: msgspec.Raw = ABSENT
    params: msgspec.Raw = ABSENT
    result: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT

    @property
    def is_request(self) -> bool:
        return bool(self.method) and bool(self.id)

    @property
    def is_answer(self) -> bool:
        return not self.method and (bool(self.result) or bool(self.error))


class ErrorObject(msgspec.Struct):
    code: int = protocol.INTERNAL_ERROR
    message: str = ""
    data: msgspec.Raw = ABSENT


class ToolResult(msgspec.Struct, gc=False):
    isError: bool = False


class ProtocolError(Exception):
    """A failure that is answered as a JSON-RPC error.

    Args:
        code: one of `gateway.mcp.protocol`.
        message: what was wrong and what to do.
        data: the error's `data`, any JSON value.
        status: HTTP status; by default 200 for legacy, and by code for modern requests.
    """

    def __init__(self, code: int, message: str, *, data: Any = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status


encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(Message).decode
decode_params = msgspec.json.Decoder(Params).decode
decode_text = msgspec.json.Decoder(str).decode
_decode_error = msgspec.json.Decoder(ErrorObject).decode
decode_tool_result = msgspec.json.Decoder(ToolResult).decode


def decode_message(data: bytes) -> Message:
    """A message of whatever kind. Raises one of `UNREADABLE`, or `RecursionError`."""
    if not data.isascii():
        # Parts that stay unparsed are not looked into, and nobody is to be sent what is no text.
        data.decode()
    return _decode_message(data)


def decode_error(raw: msgspec.Raw) -> ErrorObject:
    """A message's error; one that has not the form of one counts as an internal error."""
    try:
        return _decode_error(raw)
    except UNREADABLE:
        return ErrorObject(message="The server's error is malformed.")


def parse(body: bytes) -> Message:
    """Read a message's envelope.

    Raises:
        ProtocolError: not JSON, nested too deeply, not one object, not JSON-RPC 2.0, or with an id that is neither text
            nor integer.
    """
    # Only what has that many brackets can be that deep, and few messages do.
    if _more_brackets(body, MAX_DEPTH) and _depth(body) > MAX_DEPTH:
        raise ProtocolError(protocol.PARSE_ERROR, f"The body is nested more than {MAX_DEPTH} deep.", status=400)
    try:
        message = decode_message(body)
    except msgspec.ValidationError as error:
        raise ProtocolError(protocol.INVALID_REQUEST, f"Not one JSON-RPC message: {error}", status=400) from None
    except (*UNREADABLE, RecursionError):
        raise ProtocolError(protocol.PARSE_ERROR, "The body is not valid JSON.", status=400) from None
    if message.jsonrpc != "2.0":
        raise ProtocolError(protocol.INVALID_REQUEST, 'jsonrpc must be "2.0".', status=400)
    identifier = bytes(message.id)
    if identifier and not _good_id(identifier):
        raise ProtocolError(protocol.INVALID_REQUEST, "id must be a string or an integer.", status=400)
    if not message.method and not message.is_answer:
        raise ProtocolError(protocol.INVALID_REQUEST, "A message needs a method, a result or an error.", status=400)
    return message


def _more_brackets(body: bytes, most: int) -> bool:
    """Whether more than so many brackets open. Finding the next one is many times faster than counting bytes."""
    for bracket in (b"{", b"["):
        at = body.find(bracket)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = body.find(bracket, at + 1)
    return False


def _depth(body: bytes) -> int:
    """How deeply JSON is nested; of what is no JSON, any number. No part of it is recursive or slower than linear."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_of_strings = b"".join(unescaped.split(b'"')[::2])
    steps = memoryview(outside_of_strings.translate(_STEPS, _NO_STEPS)).cast("b")
    return max(accumulate(steps), default=0)


def _good_id(identifier: bytes) -> bool:
    if len(identifier) > _MAX_ID:
        return False
    return identifier[0] == 0x22 or identifier.removeprefix(b"-").isdigit()


def params_of(message: Message) -> Params:
    """The parameters by name, each still unparsed.

    Raises:
        ProtocolError: `params` is not an object.
    """
    raw = message.params
    if not raw or (len(raw) == len(_NULL) and bytes(raw) == _NULL):
        return {}
    try:
        return decode_params(raw)
    except (*UNREADABLE, RecursionError):
        raise ProtocolError(protocol.INVALID_PARAMS, "params must be an object.") from None


def text_param(params: Params, name: str) -> str:
    """A required text parameter.

    Raises:
        ProtocolError: it is missing or not text.
    """
    raw = params.get(name)
    if raw is not None:
        try:
            return decode_text(raw)
        except UNREADABLE:
            pass
    raise ProtocolError(protocol.INVALID_PARAMS, f"params.{name} must be given, as text.")


def object_param(params: Params, name: str) -> Params:
    """An optional parameter that is an object, by its members; empty if it is not given.

    Raises:
        ProtocolError: it is something else.
    """
    raw = params.get(name)
    if raw is None:
        return {}
    try:
        return decode_params(raw)
    except (*UNREADABLE, RecursionError):
        raise ProtocolError(protocol.INVALID_PARAMS, f"params.{name} must be an object.") from None


def request(identifier: bytes, method: str, params: Params) -> bytes:
    return encode({"jsonrpc": "2.0", "id": msgspec.Raw(identifier), "method": method, "params": params})


def notification(method: str, params: Params | dict[str, Any] | None = None) -> bytes:
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % encode(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (encode(method), encode(params))


def result(identifier: bytes, value: bytes) -> bytes:
    """An answer; `value` is the result's JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, value)


def error(identifier: bytes, failure: ProtocolError) -> bytes:
    body: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.data is not None:
        body["data"] = failure.data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier or b"null", encode(body))
