"""The reference server of the npm registry, `@modelcontextprotocol/server-everything`, over stdio and streamable HTTP.

It speaks the handshake era only. It is run as published: over HTTP it takes its port from `PORT`, listens on all
interfaces (it has no option for that) and serves `/mcp`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.support.components.machine import free_port
from tests.support.components.node import NpmPackage
from tests.support.servers.process import Child, listening, plain_environment

PACKAGE = "@modelcontextprotocol/server-everything"

TOOLS = (
    "echo",
    "get-annotated-message",
    "get-env",
    "get-resource-links",
    "get-resource-reference",
    "get-structured-content",
    "get-sum",
    "get-tiny-image",
    "gzip-file-as-resource",
    "toggle-simulated-logging",
    "toggle-subscriber-updates",
    "trigger-long-running-operation",
    "simulate-research-query",
)
"""What it lists to a client that declares no capability; more appear for roots, sampling and elicitation."""

PROMPTS = ("simple-prompt", "args-prompt", "completable-prompt", "resource-prompt")
DOCUMENT_URI = "demo://resource/static/document/architecture.md"
DOCUMENT_TITLE = "# Everything Server"
"""How the text of `DOCUMENT_URI` begins."""


def stdio_command(package: NpmPackage) -> list[str]:
    """Command and arguments that start it over stdio."""
    return [*package.command(), "stdio"]


class EverythingHttp:
    """The server over streamable HTTP as a child process.

    Args:
        package: the installed package.
        directory: where its log goes.
    """

    def __init__(self, package: NpmPackage, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        argv = [*package.command(), "streamableHttp"]
        env = plain_environment(directory, PORT=str(self.port))
        self.child = Child("everything over HTTP", argv, log=directory / "everything.log", env=env, cwd=directory)
        self.child.wait_until(lambda: listening(self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()
