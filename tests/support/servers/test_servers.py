"""The servers answer by themselves what the end-to-end tests expect to see through the gateway."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.e2e.wire import LEGACY, MODERN, Legacy, McpError, Modern
from tests.support.components.node import NpmPackage
from tests.support.servers import everything, notes
from tests.support.servers.everything import EverythingHttp, stdio_command
from tests.support.servers.notes import NotesServer
from tests.support.servers.process import Child, ChildFailed, alive, descendants, listening, plain_environment


def test_notes_serves_its_era_and_no_other(tmp_path: Path) -> None:
    with NotesServer(tmp_path) as server:
        client = Modern(server.url, "")
        assert client.listed("tools") == list(notes.TOOLS)
        assert client.call("era") == MODERN
        assert client.read(notes.README_URI) == notes.README_TEXT
        assert client.prompt(notes.PROMPT, language="C") == "Review this C code."
        with pytest.raises(AssertionError, match="Unsupported protocol version"):
            Legacy(server.url, "")
    assert not listening(server.port)


def test_notes_can_serve_both_eras(tmp_path: Path) -> None:
    with NotesServer(tmp_path, era="both") as server:
        assert Modern(server.url, "").call("era") == MODERN
        assert Legacy(server.url, "").call("era") == LEGACY


def test_everything_over_http(npm_package: Callable[[str], NpmPackage], tmp_path: Path) -> None:
    with EverythingHttp(npm_package(everything.PACKAGE), tmp_path) as server:
        session = Legacy(server.url, "")
        assert set(session.listed("tools")) == set(everything.TOOLS)
        assert set(session.listed("prompts")) == set(everything.PROMPTS)
        assert session.call("get-sum", a=2, b=40) == "The sum of 2 and 40 is 42."
        assert session.read(everything.DOCUMENT_URI).startswith(everything.DOCUMENT_TITLE)
        with pytest.raises(McpError):
            session.prompt("nothing")


async def test_everything_over_stdio(npm_package: Callable[[str], NpmPackage], tmp_path: Path) -> None:
    command, *arguments = stdio_command(npm_package(everything.PACKAGE))
    parameters = StdioServerParameters(command=command, args=arguments, env=plain_environment(tmp_path))
    async with Client(parameters, mode="legacy") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(everything.TOOLS)
        told = await client.call_tool("echo", {"message": "x"})
        assert told.content[0].text == "Echo: x"


def test_a_child_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    program = "import sys; print('cannot go on'); sys.exit(3)"
    child = Child("it", [sys.executable, "-c", program], log=tmp_path / "log", env=plain_environment(tmp_path))
    with pytest.raises(ChildFailed, match=r"exited with 3[\s\S]*cannot go on"):
        child.wait_until(lambda: False)


def test_children_of_children_are_found_and_seen_to_end(tmp_path: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
    with Child("it", [sys.executable, "-c", program], log=tmp_path / "log", env=plain_environment(tmp_path)) as child:
        child.wait_until(lambda: len(descendants(child.pid)) == 1)
        (grandchild,) = descendants(child.pid)
        assert alive(grandchild)
        child.kill()
    assert not alive(child.pid)
    # Nobody ends an orphan, so the test does.
    assert alive(grandchild)
    os.kill(grandchild, signal.SIGKILL)
