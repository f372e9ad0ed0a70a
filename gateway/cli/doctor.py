"""`gatehouse doctor`: what is wrong with this installation, and what to do about each thing.

Local checks read the data dir and the settings as `serve` would; the others ask the running gateway. A check never
repairs anything.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import typer

from gateway.cli.client import REST_SECONDS, GatewayClient, connected, refusal
from gateway.cli.errors import CommandFailed, KeyRefused, UsageWrong
from gateway.cli.local import FIRST_RUN, Address, data_dir, find_gateway
from gateway.cli.output import AsJson, one_line, show, show_json
from gateway.cli.rpc import own_version
from gateway.cli.serve import read_settings
from gateway.cli.servers import SERVERS, trouble

State = Literal["ok", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        advice: what to do; empty where nothing is to be done.
        exit_code: of the command, if this is the first thing that fails.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    exit_code: int = field(default=CommandFailed.exit_code, repr=False)


def doctor(as_json: AsJson = False) -> None:
    """Check this installation and say what to do about what fails."""
    findings: list[Finding] = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        show_json([{k: v for k, v in asdict(finding).items() if k != "exit_code"} for finding in findings])
    failed = [finding for finding in findings if finding.state == "fail"]
    if failed:
        raise typer.Exit(failed[0].exit_code)


def _print(finding: Finding) -> None:
    show(f"{finding.state:<5} {finding.name}: {one_line(finding.found)}")
    if finding.advice:
        show(f"      -> {one_line(finding.advice)}")


def _examine() -> Iterator[Finding]:
    try:
        address = find_gateway()
    except UsageWrong as error:
        yield Finding("address", "fail", error.message, "Correct GATEHOUSE_URL.", error.exit_code)
        return
    if address.local:
        yield from _local(data_dir())
    else:
        yield Finding("data dir", "skip", f"{address.url} is not this machine's own gateway")
    yield from asyncio.run(_running(address))


def _local(directory: Path) -> Iterator[Finding]:
    yield _directory(directory)
    yield _first_run(directory / FIRST_RUN)
    yield _settings()


def _directory(directory: Path) -> Finding:
    name = "data dir"
    if not directory.exists():
        return Finding(
            name, "fail", f"{directory} does not exist", "Run `gatehouse serve` once, or set GATEHOUSE_DATA_DIR."
        )
    if not directory.is_dir():
        return Finding(name, "fail", f"{directory} is not a directory", "Set GATEHOUSE_DATA_DIR to a directory.")
    if not os.access(directory, os.W_OK | os.X_OK):
        return Finding(
            name, "fail", f"{directory} cannot be written by this user", f"Give it to this user: chown {directory}."
        )
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o022:
        return Finding(
            name, "fail", f"{directory} can be written by others (mode {mode:04o})", f"chmod go-w {directory}"
        )
    return Finding(name, "ok", str(directory))


def _first_run(file: Path) -> Finding:
    if not file.exists():
        if os.environ.get("GATEHOUSE_API_KEY"):
            return Finding(FIRST_RUN, "skip", "not there; the key comes from GATEHOUSE_API_KEY")
        advice = "Run `gatehouse serve` once, or set GATEHOUSE_API_KEY."
        return Finding(FIRST_RUN, "fail", f"{file} does not exist", advice, KeyRefused.exit_code)
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        return Finding(FIRST_RUN, "fail", f"others can read the keys in it (mode {mode:04o})", f"chmod 600 {file}")
    return Finding(FIRST_RUN, "ok", f"{file}, mode {mode:04o}")


def _settings() -> Finding:
    try:
        read_settings()
    except UsageWrong as error:
        return Finding(
            "settings", "fail", error.message, "Change what it names; then start again.", UsageWrong.exit_code
        )
    return Finding("settings", "ok", "valid as this shell has them")


async def _running(address: Address) -> list[Finding]:
    async with connected(address) as client:
        try:
            found = [await _reachable(client)]
        except CommandFailed as error:
            advice = "Look at its log." if error.exit_code == CommandFailed.exit_code else ""
            unasked = [Finding(name, "skip", "the gateway was not reached") for name in ("key", "database", "servers")]
            return [Finding("gateway", "fail", error.message, advice, error.exit_code), *unasked]
        found.append(await _ready(client))
        key = await _key(client)
        found.append(key)
        if key.state == "ok":
            found += await _servers(client)
        else:
            found.append(Finding("servers", "skip", "not asked without a valid key"))
        return found


async def _reachable(client: GatewayClient) -> Finding:
    health: dict[str, Any] = await client.rest("GET", "/health")
    theirs, ours = str(health.get("version", "unknown")), own_version()
    found = f"{client.address.url} answers, version {theirs}"
    if health.get("status") != "healthy":
        return Finding("gateway", "fail", f"{found}, status {health.get('status')}", "Read its log.")
    if theirs != ours:
        advice = "Install the same version on both sides if a command misbehaves."
        return Finding("gateway", "ok", f"{found}; this command line is {ours}", advice)
    return Finding("gateway", "ok", found)


async def _ready(client: GatewayClient) -> Finding:
    try:
        # A probe's answer is its status; its body may be anything.
        async with client.open("GET", "/readyz", seconds=REST_SECONDS) as answer:
            if answer.status != 200:
                raise refusal(client.address, answer.status, await answer.read())
    except CommandFailed as error:
        advice = "Check GATEHOUSE_DATABASE_URL, that the database runs, and that its disk is not full."
        return Finding("database", "fail", error.message, advice)
    return Finding("database", "ok", "the gateway is ready")


async def _key(client: GatewayClient) -> Finding:
    if client.address.key is None:
        return Finding("key", "fail", "there is none", client.address.why_no_key, KeyRefused.exit_code)
    try:
        answer = await client.rest("POST", "/v1/auth/api-key/validate", {"api_key": client.address.key})
    except CommandFailed as error:
        return Finding("key", "fail", error.message, "Set GATEHOUSE_API_KEY to a valid key.", KeyRefused.exit_code)
    if not answer.get("valid"):
        advice = "Set GATEHOUSE_API_KEY to a valid key, or create one with `gatehouse keys create`."
        return Finding("key", "fail", "it is not valid: unknown, revoked or expired", advice, KeyRefused.exit_code)
    user: dict[str, Any] = answer.get("user") or {}
    return Finding(
        "key", "ok", f"valid, of {user.get('email', 'an unnamed user')} ({', '.join(user.get('roles') or [])})"
    )


async def _servers(client: GatewayClient) -> list[Finding]:
    try:
        known = await client.pages(SERVERS, "servers")
    except CommandFailed as error:
        return [
            Finding(
                "servers", "fail", error.message, "Use a key with the permission mcp:servers:read.", error.exit_code
            )
        ]
    if not known:
        return [Finding("servers", "ok", "none registered", "Register one with `gatehouse servers add NAME URL`.")]
    return [await _server(client, server) for server in known]


async def _server(client: GatewayClient, server: dict[str, Any]) -> Finding:
    slug = str(server.get("slug") or server.get("name"))
    name, health = f"server {slug}", str(server.get("health_status", "unknown"))
    if health == "healthy":
        return Finding(name, "ok", health)
    if health == "unknown":
        return Finding(name, "ok", "not checked yet", f"gatehouse servers refresh {slug}")
    where = server.get("base_url") or "its command"
    advice = f"Check that {where} runs and takes its credentials, then: gatehouse servers refresh {slug}"
    return Finding(name, "fail", f"{health}: {await trouble(client, server)}", advice)
