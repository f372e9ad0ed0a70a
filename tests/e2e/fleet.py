"""A gateway with ten servers, over every transport and in both eras, beside its own tools; and what to ask of each.

- over stdio: `piped`, the reference server, of the handshake era; `pipes`, our notes on the Python SDK, of both.
- over streamable HTTP: `web`, the reference server; `fixture` and `fixture-old`, the conformance server, modern and
  legacy; `notes`, modern alone; `dual`, the notes in both eras.
- over HTTP+SSE: `past`, the notes; `past-web`, the reference server.
- a REST service, imported by its OpenAPI description: `greeter`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.wire import Modern
from tests.support.components.machine import CHECKOUT
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway
from tests.support.servers import everything, notes
from tests.support.servers.conformance.process import ConformanceServer
from tests.support.servers.everything import EverythingHttp, stdio_command
from tests.support.servers.notes import NotesServer
from tests.support.servers.old import OldServer

SUM = ("get-sum", {"a": 2, "b": 40}, "The sum of 2 and 40 is 42.")
ADD = ("add", {"a": 2, "b": 40}, "42")
SIMPLE = ("test_simple_text", {}, "This is a simple text response for testing.")
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "piped": SUM,
    "pipes": ADD,
    "web": SUM,
    "fixture": SIMPLE,
    "fixture-old": SIMPLE,
    "notes": ADD,
    "dual": ADD,
    "past": ADD,
    "past-web": SUM,
    "greeter": ("greet", {"name": "Ann"}, "Hello, Ann!"),
    "gatehouse": ("servers_list", {"limit": 100}, "fixture-old"),
}
"""A tool of each server under its own name, its arguments, and a part of what it answers."""

CALLED = {f"{slug}__{tool}": (arguments, part) for slug, (tool, arguments, part) in CALLS.items()}
"""The same by the names on `/mcp`."""

READ = {f"{slug}+{notes.README_URI}": notes.README_TEXT for slug in ("pipes", "notes", "dual", "past")} | {
    f"{slug}+{everything.DOCUMENT_URI}": everything.DOCUMENT_TITLE for slug in ("piped", "web", "past-web")
}
"""Resources, with the beginning of what is in them. Several servers have them, so all but the first have a prefix."""

PROMPTED = {f"{slug}__{notes.PROMPT}": "Review this C code." for slug in ("pipes", "notes", "dual", "past")}
GREETING = {
    "openapi": "3.1.0",
    "info": {"title": "Greeter", "version": "1"},
    "paths": {
        "/greet/{name}": {
            "get": {
                "operationId": "greet",
                "summary": "Greets.",
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "A greeting"}},
            }
        }
    },
}


class _Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"greeting": f"Hello, {self.path.rpartition('/')[2]}!"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def greeter() -> Iterator[str]:
    """The address of a REST service that greets."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Greeter)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Fleet:
    gateway: RunningGateway

    @property
    def mcp(self) -> str:
        return f"{self.gateway.url}/mcp"

    @property
    def key(self) -> str:
        return self.gateway.admin_key


@contextmanager
def fleet(directory: Path, package: NpmPackage) -> Iterator[Fleet]:
    with ExitStack() as stack:
        enter = stack.enter_context
        urls = {
            "web": enter(EverythingHttp(package, directory)).url,
            "fixture": enter(ConformanceServer(directory, "modern")).url,
            "fixture-old": enter(ConformanceServer(directory, "legacy")).url,
            "notes": enter(NotesServer(directory)).url,
            "dual": enter(NotesServer(directory, era="both")).url,
            "past": enter(OldServer.notes(directory)).url,
            "past-web": enter(OldServer.everything(package, directory)).url,
        }
        rest = enter(greeter())
        gateway = enter(RunningGateway(directory / "data", env={"GATEHOUSE_STDIO_USER": "same"}))
        register(gateway, urls, stdio_command(package))
        description = directory / "greeter.json"
        description.write_text(json.dumps(GREETING))
        ran = gateway.cli("servers", "import-openapi", "greeter", str(description), "--base-url", rest)
        assert ran.code == 0, ran.both
        made = Fleet(gateway)
        # A server that answers late is listed when it has answered, so registering is not the end of it.
        gateway.child.wait_until(lambda: set(Modern(made.mcp, made.key).listed("tools")) >= set(CALLED))
        yield made


def register(gateway: RunningGateway, urls: dict[str, str], reference: list[str]) -> None:
    programs = {
        "piped": {"command": reference[0], "args": reference[1:]},
        "pipes": {
            "command": sys.executable,
            "args": ["-m", "tests.support.servers.notes_program", "--stdio"],
            "env": {"PYTHONPATH": str(CHECKOUT)},
        },
    }
    headers = {"X-Gatehouse-Operator": gateway.operator_token}
    for name, body in {**programs, **{name: {"base_url": url} for name, url in urls.items()}}.items():
        answer = gateway.rest("POST", "/v1/mcp/servers", {"name": name, **body}, headers=headers)
        assert answer.status == 201, answer.text
        server = answer.json()
        assert server["slug"] == name
        if server["health_status"] != "healthy":
            # Registering waits for a few seconds only, and a loaded machine needs more for a program's start.
            path = f"/v1/mcp/servers/{server['id']}"
            gateway.child.wait_until(lambda path=path: _looked_at(gateway, path) == "healthy")


def _looked_at(gateway: RunningGateway, path: str) -> str:
    """Its health after another look."""
    gateway.rest("POST", f"{path}/capabilities/discover")
    return str(gateway.rest("GET", path).json()["health_status"])
