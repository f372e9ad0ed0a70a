"""A gateway with three real upstreams, each registered by another door, as most end-to-end tests want it.

- `everything`: the reference server over stdio, by `gatehouse servers add NAME -- COMMAND`. Handshake era.
- `web`: the same server over streamable HTTP, by `gatehouse servers add NAME URL`. Handshake era.
- `notes`: our server on the Python SDK, by `POST /v1/mcp/servers`. Revision 2026-07-28 alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.wire import Modern
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway
from tests.support.servers import everything, notes
from tests.support.servers.everything import EverythingHttp, stdio_command
from tests.support.servers.notes import NotesServer

EVERYTHING, WEB, NOTES = "everything", "web", "notes"

OFFERED = {
    EVERYTHING: frozenset(everything.TOOLS),
    WEB: frozenset(everything.TOOLS),
    NOTES: frozenset(notes.TOOLS),
}
"""The tools of each server under its own names."""

ALL_TOOLS = frozenset(f"{server}__{tool}" for server, tools in OFFERED.items() for tool in tools)
"""As `/mcp` names them."""

PROMPTS = frozenset(f"{server}__{prompt}" for server in (EVERYTHING, WEB) for prompt in everything.PROMPTS) | {
    f"{NOTES}__{notes.PROMPT}"
}


@dataclass
class Furnished:
    """The gateway and what stands behind it."""

    gateway: RunningGateway
    web: EverythingHttp
    notes: NotesServer

    @property
    def mcp(self) -> str:
        """The endpoint with everything."""
        return f"{self.gateway.url}/mcp"

    def server_mcp(self, slug: str) -> str:
        """The endpoint of one server."""
        return f"{self.gateway.url}/servers/{slug}/mcp"

    def agent(self, slug: str | None = None) -> Modern:
        """The agent's key at `/mcp`, or at one server's endpoint."""
        return Modern(self.server_mcp(slug) if slug else self.mcp, self.gateway.agent_key)


@contextmanager
def furnished_gateway(directory: Path, package: NpmPackage) -> Iterator[Furnished]:
    """Start all of it in `directory`, register, and wait until every tool is listed."""
    with (
        EverythingHttp(package, directory) as web,
        NotesServer(directory) as python,
        RunningGateway(directory / "data") as gateway,
    ):
        register(gateway, web.url, python.url, stdio_command(package))
        made = Furnished(gateway, web, python)
        # A server that answers late is listed when it has answered, so registering is not the end of it.
        gateway.child.wait_until(lambda: set(made.agent().listed("tools")) >= ALL_TOOLS)
        yield made


def register(gateway: RunningGateway, web_url: str, notes_url: str, command: list[str]) -> None:
    for arguments in ((EVERYTHING, "--", *command), (WEB, web_url)):
        ran = gateway.cli("servers", "add", *arguments)
        assert ran.code == 0, ran.both
    answer = gateway.rest("POST", "/v1/mcp/servers", {"name": NOTES, "base_url": notes_url})
    assert answer.status == 201, answer.text
