"""Size caps at the gateway's MCP door, whatever form the answer comes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.mcp.policies.sizes import Caps, SizeLimitInvalid, parse_size_limits
from tests.gateway.mcp.door import opened
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.support.canary import canary, http_answer

CAP = 200_000


def _as_json(body: bytes) -> bytes:
    return http_answer(200, body, content_type="application/json")


def _as_event(body: bytes) -> bytes:
    return http_answer(200, b"event: message\ndata: " + body + b"\n\n", content_type="text/event-stream")


def _chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _giving(text: str, form: Callable[[bytes], bytes], **more: Any) -> Callable[[bytes], bytes]:
    """An echo whose tool gives `text`."""
    server = Echo(tools=[tool("say")])

    def answer(request: bytes) -> bytes:
        _, _, body = request.partition(b"\r\n\r\n")
        if b'"tools/call"' not in body:
            return server.answer(request)
        result = {"content": [{"type": "text", "text": text}], **more}
        return form(json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": result}).encode())

    return answer


@pytest.mark.parametrize("form", [_as_json, _as_event, _chunked])
@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("size", [100, CAP - 1000, CAP + 1, 5 * CAP])
async def test_a_result_beyond_its_cap_is_cut_with_a_note(
    tmp_path: Path, era: str, size: int, form: Callable[[bytes], bytes]
) -> None:
    text = 'sm\u00f8rrebr\u00f8d "\\\n' * (size // 27 + 1)
    async with (
        opened(tmp_path / "data", max_result_bytes=CAP) as door,
        canary(_giving(text, form, isError=False)) as listener,
    ):
        await door.register("echo", listener.url + "mcp")
        client = await door.either(era, "/mcp", door.agent)
        result = await client.result("tools/call", {"name": "echo__say"})
        content = [part["text"] for part in result["content"]]
        if size < CAP:
            assert content == [text]
            return
        kept, note = content
        assert text.startswith(kept)
        assert 10_000 < len(kept) < CAP
        assert "was cut by the gateway" in note
        assert str(CAP) in note
        assert result["isError"] is False
        assert ("resultType" in result) == (era == "modern")


async def test_a_failed_tool_stays_failed(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "data", max_result_bytes=1000) as door,
        canary(_giving("x" * 5000, _as_json, isError=True)) as listener,
    ):
        await door.register("echo", listener.url + "mcp")
        result = await door.modern("/mcp", door.agent).result("tools/call", {"name": "echo__say"})
        assert result["isError"] is True
        assert "was cut" in result["content"][-1]["text"]


async def test_arguments_beyond_their_cap_reach_nobody(tmp_path: Path) -> None:
    limits = ("wide__say=4000/0", "narrow=50/0")
    async with (
        opened(tmp_path / "data", max_argument_bytes=1000, size_limits=limits) as door,
        echo(tools=[tool("say"), tool("shout")]) as upstream,
    ):
        for name in ("echo", "wide", "narrow"):
            await door.register(name, upstream.url)
        client = door.modern("/mcp", door.agent)

        async def passes(name: str, size: int) -> bool:
            before = len(upstream.received)
            arguments = {"x": "y" * (size - len('{"x": ""}'))}
            message = (await client.send("tools/call", {"name": name, "arguments": arguments})).json()
            if "error" in message:
                assert message["error"]["code"] == -32602
                told = {"code": "ARGUMENTS_TOO_LARGE", "size": size, "limit": size - 1}
                assert message["error"]["data"] == told
            assert len(upstream.received) == before + ("error" not in message)
            return "error" not in message

        assert [await passes("echo__say", size) for size in (1000, 1001)] == [True, False]
        assert [await passes("wide__say", size) for size in (4000, 4001)] == [True, False]
        assert [await passes("wide__shout", size) for size in (1000, 1001)] == [True, False]
        assert [await passes("narrow__say", size) for size in (50, 51)] == [True, False]


def test_size_limits_are_read_and_their_form_is_checked() -> None:
    assert parse_size_limits(("files=1/2", "a__b=0/5")) == {"files": Caps(1, 2), "a__b": Caps(0, 5)}
    for wrong in ("files", "files=1", "=1/2", "files=1/x", "files=-1/2"):
        with pytest.raises(SizeLimitInvalid):
            parse_size_limits((wrong,))
