"""The envelope: whatever comes, it is read the one way in which it is forwarded, or refused as a protocol error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mcp import envelope
from gateway.mcp.envelope import ProtocolError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)
HEAD = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
CORPUS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 200_000,
    HEAD + b'{"name":"x","arguments":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
    b'{"a":' * 100_000,
    HEAD + b"1" * 5000 + b"}",
    HEAD + b'{"name":' + b"9" * 5000 + b"}}",
    HEAD + b'{"name":NaN}}',
    HEAD + b'{"name":"\\ud800"}}',
    HEAD + b'{"name":"\xff\xfe"}}',
    HEAD + b'{"\xff":1}}',
    HEAD + b'{"name":"a\x00b"}}',
    HEAD + b'{"name":"a\nb"}}',
    HEAD + b"{}} trailing",
    HEAD + b"[]}",
    HEAD + b'"text"}',
    b"\xef\xbb\xbf" + HEAD + b"{}}",
    b'{"jsonrpc":"2.0","id":1.5,"method":"x"}',
    b'{"jsonrpc":"2.0","id":true,"method":"x"}',
    b'{"jsonrpc":"2.0","id":null,"method":"x"}',
    b'{"jsonrpc":"2.0","id":{},"method":"x"}',
    b'{"jsonrpc":"2.0","id":' + b"1" * 300 + b',"method":"x"}',
    b'{"jsonrpc":"1.0","id":1,"method":"x"}',
    b'{"jsonrpc":"2.0","id":1,"method":5}',
    b'{"jsonrpc":"2.0","id":1}',
    b'[{"jsonrpc":"2.0","id":1,"method":"x"}]',
]


def read(body: bytes) -> None:
    """Everything that the handler asks of a body."""
    try:
        message = envelope.parse(body)
        params = envelope.params_of(message)
        for name in ("name", "uri", "cursor", "requestState"):
            if name in params:
                envelope.text_param(params, name)
        for name in ("_meta", "arguments", "notifications", "capabilities"):
            envelope.object_param(params, name)
    except ProtocolError:
        return
    assert message.jsonrpc == "2.0"
    json.loads(envelope.request(bytes(message.id) or b"1", message.method, params))


@pytest.mark.parametrize("body", CORPUS, ids=range(len(CORPUS)))
def test_a_hostile_body_is_a_protocol_error_or_a_message(body: bytes) -> None:
    read(body)


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    read(body)


@given(json_values)
def test_any_json(value: Any) -> None:
    read(json.dumps(value).encode())


@given(json_values, st.binary(max_size=8), st.integers(0, 200))
def test_any_message_with_something_spliced_in(params: Any, splice: bytes, place: int) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    place %= len(body) + 1
    read(body[:place] + splice + body[place:])


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_what_is_forwarded_is_what_came(params: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": "a", "method": "x", "params": params}).encode()
    message = envelope.parse(body)
    again = json.loads(envelope.request(bytes(message.id), message.method, envelope.params_of(message)))
    assert again == json.loads(body)


def nested(depth: int) -> bytes:
    """A message of that depth: its own object and its parameters are two of it."""
    return HEAD + b'{"a":' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"}}"


@pytest.mark.requirement("jsonrpc.depth")
def test_depth_is_limited_and_brackets_in_texts_are_no_depth() -> None:
    envelope.parse(nested(envelope.MAX_DEPTH))
    envelope.parse(HEAD + b'{"text":"' + b"[{" * 500 + b'\\"' + b"[" * 500 + b'\\\\"}}')
    envelope.parse(HEAD + b'{"list":[' + b",".join([b'{"a":[]}'] * 500) + b"]}}")
    for body in (nested(envelope.MAX_DEPTH + 1), nested(5000), nested(200_000)):
        with pytest.raises(ProtocolError, match="nested more than 64 deep") as refused:
            envelope.parse(body)
        assert (refused.value.code, refused.value.status) == (-32700, 400)


@given(json_values)
def test_depth_is_what_json_says(value: Any) -> None:
    def depth(part: Any) -> int:
        below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else None
        return 0 if below is None else 1 + max(map(depth, below), default=0)

    assert envelope._depth(json.dumps(value).encode()) == depth(value)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a key is there twice: {names}"
    return dict(pairs)


@given(st.lists(st.tuples(st.sampled_from(["name", "n\\u0061me", "arguments", "_meta"]), st.integers()), min_size=2))
def test_a_key_given_twice_means_one_thing(pairs: list[tuple[str, int]]) -> None:
    text = ",".join(f'"{name}":"{value}"' for name, value in pairs)
    message = envelope.parse(b'{"jsonrpc":"2.0","id":1,"method":"a","method":"b","params":{%b}}' % text.encode())
    params = envelope.params_of(message)
    sent = json.loads(envelope.request(bytes(message.id), message.method, params), object_pairs_hook=unique)
    checked = {name: envelope.text_param(params, name) for name in params}
    assert sent["params"] == checked
    assert sent["method"] == message.method


@given(st.text())
def test_an_error_is_json_whatever_it_quotes(text: str) -> None:
    # What came over the wire has no lone surrogates, so nothing that an error quotes has.
    text = text.encode(errors="replace").decode()
    made = json.loads(envelope.error(b"", ProtocolError(-32602, text, data={"uri": text})))
    assert made == {"jsonrpc": "2.0", "id": None, "error": {"code": -32602, "message": text, "data": {"uri": text}}}


def test_an_answer_needs_a_result_or_an_error() -> None:
    assert not envelope.decode_message(b'{"jsonrpc":"2.0","id":1}').is_answer
    assert envelope.decode_message(b'{"jsonrpc":"2.0","id":1,"result":null}').is_answer
    assert not envelope.decode_message(b'{"jsonrpc":"2.0","id":1,"method":"x","result":1}').is_answer


def test_what_is_no_text_is_never_a_message() -> None:
    with pytest.raises(envelope.UNREADABLE):
        envelope.decode_message(b'{"jsonrpc":"2.0","id":1,"result":{"text":"\xff"}}')
    assert bytes(msgspec.Raw(envelope.decode_message('{"id":1,"result":"ü"}'.encode()).result)) == '"ü"'.encode()
