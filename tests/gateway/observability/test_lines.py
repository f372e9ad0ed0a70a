"""A line for each call: which calls have one, what it says, and what it never says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.observability.lines import CallLines
from tests.gateway.mcp.door import opened
from tests.gateway.mcp.echo import echo
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.made import call

OUTCOMES = ["ok", "tool_error", "error", "denied", "not_sent", "unknown"]
CALLS = [call(n)._replace(outcome=outcome) for n, outcome in enumerate(OUTCOMES)]


def told(chosen: Any, level: str) -> list[str]:
    written: list[str] = []
    lines = CallLines(chosen, level, "json", written.append)
    lines.observe(CALLS)
    return [json.loads(line)["outcome"] for text in written for line in text.splitlines()]


@pytest.mark.parametrize(
    ("chosen", "level", "outcomes"),
    [
        ("all", "debug", OUTCOMES),
        ("all", "info", OUTCOMES),
        ("all", "warning", ["not_sent", "unknown"]),
        ("all", "error", []),
        ("failures", "info", OUTCOMES[1:]),
        ("failures", "warning", ["not_sent", "unknown"]),
        ("off", "debug", []),
    ],
)
def test_which_calls_have_a_line(chosen: str, level: str, outcomes: list[str]) -> None:
    assert told(chosen, level) == outcomes
    assert CallLines(chosen, level, "json").wanted is bool(outcomes)  # type: ignore[arg-type]


def test_what_a_line_says() -> None:
    written: list[str] = []
    one = call(1_763_812_800_123_456)._replace(
        outcome="unknown", error_code=-31004, duration_us=1500, user_id="u1", key_id=7, request_id="r-1"
    )
    CallLines("all", "info", "json", written.append).observe([one, one])
    assert len(written) == 1, "a batch is one write"
    first, second = written[0].splitlines()
    assert first == second
    assert json.loads(first) == {
        "event": "call",
        "level": "warning",
        "timestamp": "2025-11-22T12:00:00.123456Z",
        "org": "o1",
        "user": "u1",
        "key": 7,
        "server": "s",
        "method": "tools/call",
        "name": "t",
        "outcome": "unknown",
        "code": -31004,
        "ms": 1.5,
        "bytes_in": 1,
        "bytes_out": 1,
        "request_id": "r-1",
    }


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_and_no_second_line(form: str) -> None:
    written: list[str] = []
    secret = "mcp_abcdefgh_" + "s3cret" * 6
    hostile = [
        call(1)._replace(name=f"https://ada:{secret}@example.org/x"),
        call(2)._replace(name="a\nevent=forged\x1b[31m", request_id=f"Bearer {secret}"),
    ]
    CallLines("all", "info", form, written.append).observe(hostile)
    text = "".join(written)
    assert "s3cret" not in text
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


async def test_a_gateway_writes_them_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(tmp_path / "data", call_log="all", log_level="info") as door:
        async with echo() as server:
            await door.register("it", server.url)
            speaker = await Speaker.of(door, "modern", "/mcp")
            await speaker.call("it__say", {"password": "s3cret"}).done()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"event":"call"' in line]
    assert [(line["server"], line["name"], line["outcome"]) for line in lines] == [("it", "it__say", "ok")]
    assert "s3cret" not in str(lines)
