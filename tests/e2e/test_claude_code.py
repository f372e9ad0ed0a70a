"""Claude Code's own connection check: `claude mcp list` connects without an account or a model and says how it went."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.furnish import Furnished
from tests.support.components.node import NpmPackage
from tests.support.gateway import COMMAND_SECONDS, Ran
from tests.support.servers.process import plain_environment


@dataclass
class Claude:
    """The program with a home of its own, and a folder on PATH in which it is called `claude`."""

    home: Path
    programs: Path

    def shell(self, line: str) -> Ran:
        """Run a line as a person would type it."""
        env = plain_environment(self.home)
        env["PATH"] = f"{self.programs}:{env['PATH']}"
        done = subprocess.run(
            ["sh", "-c", line],
            env=env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def add(self, name: str, url: str, key: str) -> None:
        header = shlex.quote(f"Authorization: Bearer {key}")
        ran = self.shell(f"claude mcp add --transport http {name} {url} --header {header}")
        assert ran.code == 0, ran.both

    def status(self, url: str) -> str:
        """What `claude mcp list` says of the server at `url`; the exit code is always 0."""
        ran = self.shell("claude mcp list")
        lines = [line for line in ran.out.splitlines() if url in line]
        assert len(lines) == 1, ran.both
        return lines[0]


@pytest.fixture
def claude(npm_package: Callable[[str], NpmPackage], tmp_path: Path) -> Claude:
    return at_home(npm_package("@anthropic-ai/claude-code"), tmp_path)


def at_home(package: NpmPackage, tmp_path: Path) -> Claude:
    """The installed program, with its home and folder in `tmp_path`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "claude"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(package.command())} "$@"\n')
    script.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    return Claude(home, programs)


def test_it_connects(claude: Claude, furnished: Furnished) -> None:
    claude.add("gw", furnished.mcp, furnished.gateway.agent_key)
    assert "Connected" in claude.status(furnished.mcp)


@pytest.mark.parametrize("slug", ["everything", "web", "notes"])
def test_it_connects_to_one_server(claude: Claude, furnished: Furnished, slug: str) -> None:
    claude.add("one", furnished.server_mcp(slug), furnished.gateway.agent_key)
    assert "Connected" in claude.status(furnished.server_mcp(slug))


def test_a_wrong_key_fails(claude: Claude, furnished: Furnished) -> None:
    claude.add("gw", furnished.mcp, "mcp_wrong_" + "x" * 40)
    said = claude.status(furnished.mcp)
    assert "Connected" not in said
    assert "Failed to connect" in said


def test_the_printed_line_works_as_it_is(claude: Claude, furnished: Furnished) -> None:
    (line,) = [line.strip() for line in furnished.gateway.output.splitlines() if "claude mcp add" in line]
    assert furnished.gateway.agent_key in line
    ran = claude.shell(line[line.index("claude mcp add") :])
    assert ran.code == 0, ran.both
    assert "Connected" in claude.status(furnished.mcp)
