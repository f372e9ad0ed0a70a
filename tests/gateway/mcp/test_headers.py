"""Headers: what is encoded is decoded again, what they say must be what the body says, nothing else gets into them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mcp import headers, protocol
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.headers import McpHeaders

words = st.text(st.characters(exclude_categories=["Cs"]))


@given(words)
def test_a_value_survives_its_header_and_is_safe_in_it(value: str) -> None:
    encoded = headers.encode_value(value)
    assert all(0x20 <= ord(character) < 0x7F for character in encoded)
    assert encoded == encoded.strip()
    assert encoded
    assert headers.decode_value(encoded.encode()) == value


@given(st.binary())
def test_any_header_is_a_value_or_nothing(value: bytes) -> None:
    decoded = headers.decode_value(value)
    assert decoded is None or isinstance(decoded, str)


def wrapped(text: str) -> bytes:
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="


def given_headers(**fields: Any) -> McpHeaders:
    return McpHeaders(**{"method": b"tools/call", "name": b"safe", **fields})


@pytest.mark.parametrize(
    ("fields", "agrees"),
    [
        ({}, True),
        ({"name": wrapped("safe")}, True),
        ({"name": b"danger"}, False),
        ({"name": wrapped("danger")}, False),
        ({"name": None}, False),
        ({"name": b"Safe"}, False),
        ({"name": b"safe,danger"}, False),
        ({"name": b"=?base64?c2FmZQ?="}, False),
        ({"name": b"=?base64?c2FmZR==?="}, False),
        ({"name": b"=?BASE64?c2FmZQ==?="}, False),
        ({"name": b"=?base64?!!!!?="}, False),
        ({"name": b"=?base64?/w==?="}, False),
        ({"method": b"tools/list"}, False),
        ({"method": None}, False),
        ({"method": wrapped("tools/call")}, False),
        ({"duplicate": b"mcp-name"}, False),
        ({"duplicate": b"host"}, False),
    ],
)
def test_the_mirrors_matrix(fields: dict[str, Any], agrees: bool) -> None:
    if agrees:
        headers.check_mirrors(given_headers(**fields), "tools/call", "safe")
        return
    with pytest.raises(ProtocolError) as refused:
        headers.check_mirrors(given_headers(**fields), "tools/call", "safe")
    assert (refused.value.code, refused.value.status) == (protocol.HEADER_MISMATCH, 400)


@pytest.mark.parametrize("name", ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "mcp-param-a"])
def test_a_header_given_twice_is_noticed(name: str) -> None:
    raw = name.encode()
    assert headers.read([(raw, b"a")]).duplicate is None
    assert headers.read([(raw, b"a"), (raw, b"a")]).duplicate == raw


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


MIRRORED = {"type": "string", "x-mcp-header": "Region"}


@pytest.mark.parametrize(
    ("given_schema", "invalid"),
    [
        (schema(region=MIRRORED), False),
        (schema(region=MIRRORED | {"type": "integer"}), False),
        (schema(region=MIRRORED | {"type": "boolean"}), False),
        (schema(outer=schema(region=MIRRORED)), False),
        (schema(region=MIRRORED | {"type": "number"}), True),
        (schema(region=MIRRORED | {"type": "object"}), True),
        (schema(region=MIRRORED | {"type": ["string", "null"]}), True),
        (schema(region={"x-mcp-header": "Region"}), True),
        (schema(region=MIRRORED | {"x-mcp-header": ""}), True),
        (schema(region=MIRRORED | {"x-mcp-header": "a b"}), True),
        (schema(region=MIRRORED | {"x-mcp-header": "a\r\nX-Evil: 1"}), True),
        (schema(region=MIRRORED | {"x-mcp-header": "a:"}), True),
        (schema(region=MIRRORED | {"x-mcp-header": 5}), True),
        (schema(a=MIRRORED, b=MIRRORED | {"x-mcp-header": "rEGION"}), True),
        ({"type": "string", "x-mcp-header": "Root"}, True),
        (schema(list={"type": "array", "items": MIRRORED}), True),
        ({"anyOf": [schema(region=MIRRORED)]}, True),
        ({"$defs": {"region": MIRRORED}}, True),
        (schema(region={"not": MIRRORED}), True),
        ("no schema", False),
        (None, False),
    ],
)
def test_the_rules_of_mirrored_parameters(given_schema: Any, invalid: bool) -> None:
    assert headers.invalid_param_headers(given_schema) is invalid


def params(arguments: Any) -> dict[str, msgspec.Raw]:
    return {"arguments": msgspec.Raw(json.dumps(arguments).encode())}


DECLARED = {("region",): "Region", ("deep", "er"): "Deeper"}


@given(words)
def test_a_mirrored_argument_must_equal_its_header(value: str) -> None:
    arguments = params({"region": value})
    good = McpHeaders(params={b"region": headers.encode_value(value).encode()})
    headers.check_params(DECLARED, good, arguments)
    for bad in (McpHeaders(), McpHeaders(params={b"region": headers.encode_value(value + "x").encode()})):
        with pytest.raises(ProtocolError):
            headers.check_params(DECLARED, bad, arguments)


@pytest.mark.parametrize(
    ("arguments", "mirrored"),
    [
        ({"region": "a", "deep": {"er": 5}}, {"Region": "a", "Deeper": "5"}),
        ({"region": True}, {"Region": "true"}),
        ({"region": None, "deep": []}, {}),
        ({"region": {"a": 1}}, {}),
        ([], {}),
        ({"region": "a\r\nX-Evil: 1"}, {"Region": "a\r\nX-Evil: 1"}),
    ],
)
def test_what_is_mirrored(arguments: Any, mirrored: dict[str, str]) -> None:
    assert headers.mirrored_params(DECLARED, params(arguments)) == mirrored


@pytest.mark.parametrize(
    "arguments", [b'{"region":1e999}', b'{"region":%s}' % (b"9" * 5000), b"[" * 5000 + b"]" * 5000]
)
def test_arguments_that_cannot_be_read_are_the_callers_mistake(arguments: bytes) -> None:
    with pytest.raises(ProtocolError) as failed:
        headers.mirrored_params(DECLARED, {"arguments": msgspec.Raw(arguments)})
    assert failed.value.code == protocol.INVALID_PARAMS


def test_a_mirrored_argument_given_twice_goes_on_once_as_it_was_checked() -> None:
    given_twice = b'{"region":"a","region":"b","deep":{"er":1,"er":2,"z":1.50},"big":%s}' % (b"9" * 30)
    sent = headers.unambiguous(DECLARED, {"name": msgspec.Raw(b'"x"'), "arguments": msgspec.Raw(given_twice)})
    assert bytes(sent["arguments"]) == b'{"region":"b","deep":{"er":2,"z":1.50},"big":%s}' % (b"9" * 30)
    assert headers.mirrored_params(DECLARED, {"arguments": msgspec.Raw(b'{"region":"a","region":"b"}')}) == {
        "Region": "b"
    }
    assert headers.unambiguous(DECLARED, {}) == {}
    assert bytes(headers.unambiguous(DECLARED, {"arguments": msgspec.Raw(b"[1]")})["arguments"]) == b"[1]"
