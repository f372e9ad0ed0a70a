"""Runs the suite's program and reads what it wrote. It knows no gateway and judges nothing.

The suite writes one folder for each scenario into its output folder: `[server-]NAME-TIME/checks.json`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.support.components.node import NpmPackage

PACKAGE = "@modelcontextprotocol/conformance"
RUN_SECONDS = 150
"""For all scenarios of a revision; they take under ten where the machine is free."""
SCENARIO_MILLISECONDS = 60_000
"""A bound for machines under load; most take a second or two."""

_HEADING = re.compile(r"(.+) scenarios \(")
_LISTED = re.compile(r"  - (\S+) \[")
_FOLDER = re.compile(r"(?:authorization-server-|server-)?(?P<name>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")
BAD = ("FAILURE", "WARNING")
"""A warning is a SHOULD that was not done; it needs a reason as a failure does."""


@dataclass(frozen=True)
class Check:
    """What one check of a scenario found."""

    id: str
    status: str
    message: str

    @property
    def bad(self) -> bool:
        return self.status in BAD


Results = dict[str, list[Check]]
"""By scenario, in the suite's order of checks."""


def bad_checks(results: Results) -> Results:
    """The scenarios with anything bad, with nothing but that."""
    bad = {name: [check for check in checks if check.bad] for name, checks in results.items()}
    return {name: checks for name, checks in bad.items() if checks}


@dataclass(frozen=True)
class Suite:
    """The installed program.

    Args:
        package: of the registry.
        directory: output folders are made in it.
    """

    package: NpmPackage
    directory: Path

    def requirements(self, revision: str, side: str) -> list[str]:
        """What the program itself says a revision requires of a "server" or "client"."""
        document = yaml.safe_load((self.package.directory / "requirements" / f"{revision}.yaml").read_text())
        return document[side]

    def unscored(self, revision: str, side: str) -> list[str]:
        """What it only reports for a revision."""
        document = yaml.safe_load((self.package.directory / "requirements" / f"{revision}.yaml").read_text())
        return [each["scenario"] for each in document["not_scored"] if each["leg"] == side]

    async def scenarios(self) -> dict[str, list[str]]:
        """Every scenario of the program, by what it tests: a "server", "client" or "authorization server"."""
        code, said = await self._run("list")
        assert code == 0, said
        found: dict[str, list[str]] = {}
        for line in said.splitlines():
            if heading := _HEADING.match(line):
                found[heading[1].lower()] = []
            elif name := _LISTED.match(line):
                found[next(reversed(found))].append(name[1])
        return found

    async def server(self, url: str, revision: str) -> Results:
        """Test the server at `url` with everything that the revision requires, and what it only reports."""
        output = self._output(f"server-{revision}")
        limits = ("--timeout", str(SCENARIO_MILLISECONDS))
        await self._run("server", "--url", url, "--requirements", revision, *limits, "-o", str(output))
        return _read(output)

    async def client(self, command: str, scenario: str, revision: str, env: Mapping[str, str]) -> list[Check]:
        """Test the client that a shell starts by `command` and the address of the suite's server."""
        output = self._output(f"client-{scenario.replace('/', '-')}")
        # An extension is of no revision, and would be skipped.
        which = ("--scenario", scenario, "--spec-version", revision, "--force")
        limits = ("--timeout", str(SCENARIO_MILLISECONDS), "-o", str(output))
        code, said = await self._run("client", "--command", command, *which, *limits, env=env)
        checks = next(iter(_read(output).values()), [])
        if code != 0 and not any(check.bad for check in checks):
            checks.append(Check("client-exit", "FAILURE", ""))
        # Why a check failed, the client says better than the suite.
        return [replace(each, message=f"{each.message}\n{said[-2000:]}") if each.bad else each for each in checks]

    async def authorization(
        self, url: str, client_id: str, resource: str, port: int, visit: Callable[[str], Awaitable[None]]
    ) -> Results:
        """Test the authorization server at `url` with everything there is for one.

        Args:
            client_id: of a client without a secret, which is sent back to `/callback` on this port of the loopback.
            resource: what the token is for.
            visit: is the person who is sent to an address of the server's, and comes back.
        """
        output = self._output("authorization")
        about = ("--client-id", client_id, "--resource", resource, "--port", str(port), "-o", str(output))

        async def read(lines: asyncio.StreamReader) -> bytes:
            said = b""
            async for line in lines:
                said += line
                if line.startswith(url.encode()):
                    await visit(line.decode().strip())
            return said

        await self._run("authorization", "--url", url, *about, read=read)
        return _read(output)

    def _output(self, name: str) -> Path:
        return self.directory / f"{name}-{len(list(self.directory.iterdir()))}"

    async def _run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        read: Callable[[asyncio.StreamReader], Awaitable[bytes]] = asyncio.StreamReader.read,
    ) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *self.package.command(),
            *arguments,
            env={**self.package.node.env, **dict(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(RUN_SECONDS):
                assert process.stdout is not None
                said = await read(process.stdout)
                await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace")


def _read(output: Path) -> Results:
    results: Results = {}
    for file in sorted(output.rglob("checks.json")) if output.exists() else ():
        # A scenario's name may hold slashes, which are folders here.
        found = _FOLDER.fullmatch(str(file.parent.relative_to(output)))
        assert found is not None, file
        results[found["name"]] = [_check(each) for each in json.loads(file.read_text())]
    return results


def _check(document: dict[str, Any]) -> Check:
    return Check(document["id"], document["status"], document.get("errorMessage") or document["description"])
