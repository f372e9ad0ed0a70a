"""`gatehouse servers …`: the registered MCP servers, over `/v1/mcp/servers`."""

from __future__ import annotations

import os
from typing import Annotated, Any
from urllib.parse import quote

import typer
from typer.core import TyperCommand

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import list_in, object_in
from gateway.cli.errors import CommandFailed, UsageWrong
from gateway.cli.local import find_gateway, operator_token
from gateway.cli.output import AsJson, note, one_line, show, show_json, show_table

SERVERS = "/v1/mcp/servers"
OPERATOR_HEADER = "X-Gatehouse-Operator"
_COMMAND = "gatehouse.command"

servers = typer.Typer(no_args_is_help=True, help="Register and inspect MCP servers.")

Which = Annotated[str, typer.Argument(metavar="NAME|ID|SLUG")]


class _AddCommand(TyperCommand):
    """Keeps what follows `--` apart, so that a command's own options stay its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            args, ctx.meta[_COMMAND] = args[:split], args[split + 1 :]
        return super().parse_args(ctx, args)


@servers.command(
    "add", cls=_AddCommand, epilog="A local program:  gatehouse servers add NAME [--env K=V] -- COMMAND ARGS…"
)
def add(
    ctx: typer.Context,
    name: str,
    url: Annotated[str | None, typer.Argument(help="The server's endpoint; not with -- COMMAND.")] = None,
    transport: Annotated[str | None, typer.Option(help="streamable-http or sse; guessed where not given.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Sent to the server with each request.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="The command's environment; K alone takes this shell's value."),
    ] = None,
    container: Annotated[
        bool, typer.Option("--container", help="Run the command in a container, not on the gateway's machine.")
    ] = False,
    image: Annotated[str | None, typer.Option(help="The container's, from the operator's list.")] = None,
    network: Annotated[str | None, typer.Option(help="The container's: none, allowlist or open.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A host that the container may reach; may be repeated.")
    ] = None,
    environment: Annotated[str, typer.Option(help="development, staging or production.")] = "development",
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    public: Annotated[bool, typer.Option("--public", help="Answer anybody, without a credential.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register a server, by its URL or by the command that starts it."""
    command: list[str] | None = ctx.meta.get(_COMMAND)
    body: dict[str, Any] = {"name": name, "environment": environment, "tags": tag or []}
    if description is not None:
        body["description"] = description
    if public:
        body["public"] = True
    headers: dict[str, str] = {}
    if command is None:
        body |= _by_url(url, transport, header or [], env or [])
    else:
        body |= _by_command(command, url, transport, header or [], env or [])
        # Proof of access to this machine, which only this machine's own gateway may see.
        token = operator_token() if find_gateway().local else None
        headers = {OPERATOR_HEADER: token} if token else {}
    if container or image or network or allow:
        body["container"] = _container(command, image, network, allow or [])

    async def work(client: GatewayClient) -> tuple[dict[str, Any], str | None]:
        made = object_in(await client.rest("POST", SERVERS, body, headers=headers))
        return made, await trouble(client, made)

    server, why = run(work)
    if as_json:
        show_json(server)
    else:
        show(f"Registered {_summary(server)}.")
    if why is not None:
        note(f"It does not answer well yet: {why}")


def _by_url(url: str | None, transport: str | None, header: list[str], env: list[str]) -> dict[str, Any]:
    if url is None:
        raise UsageWrong("Say where the server is: gatehouse servers add NAME URL, or NAME -- COMMAND ARGS…")
    if not url.lower().startswith(("http://", "https://")):
        raise UsageWrong(f"{url!r} is not a URL: begin it with http:// or https://, or put a command after --.")
    if env:
        raise UsageWrong("--env is for a command after --; a server at a URL takes --header.")
    body: dict[str, Any] = {"base_url": url}
    if transport:
        body["transport"] = transport
    if header:
        body["headers"] = dict(header_pair(text) for text in header)
    return body


def _by_command(
    command: list[str], url: str | None, transport: str | None, header: list[str], env: list[str]
) -> dict[str, Any]:
    if not command:
        raise UsageWrong("There is no command after --.")
    if url is not None or header or transport not in (None, "stdio"):
        raise UsageWrong("A command after -- goes with neither a URL nor --header nor another --transport than stdio.")
    return {
        "transport": "stdio",
        "command": command[0],
        "args": command[1:],
        "env": dict(_environment(text) for text in env),
    }


def _container(command: list[str] | None, image: str | None, network: str | None, allow: list[str]) -> dict[str, Any]:
    if command is None:
        raise UsageWrong("--container, --image, --network and --allow are for a command after --.")
    made: dict[str, Any] = {"network": network or ("allowlist" if allow else "none"), "allowed_hosts": allow}
    return made if image is None else {**made, "image": image}


def header_pair(text: str) -> tuple[str, str]:
    """Name and value of a `--header`. Raises `UsageWrong`."""
    return _pair(text, "--header")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        # The text may be a secret that was meant to have a name, so it is not repeated.
        raise UsageWrong(f"{option} takes NAME=VALUE.")
    return name, value


def _environment(text: str) -> tuple[str, str]:
    if "=" in text:
        return _pair(text, "--env")
    if text not in os.environ:
        raise UsageWrong(f"--env {text} takes the value of this shell's {text}, which is not set.")
    return text, os.environ[text]


@servers.command("list")
def list_servers(as_json: AsJson = False) -> None:
    """List the registered servers."""
    found = run(lambda client: client.pages(SERVERS, "servers"))
    if as_json:
        show_json(found)
        return
    columns = ("slug", "name", "health", "transport", "environment", "endpoint", "id")
    fields = ("slug", "name", "health_status", "transport", "environment", "base_url", "id")
    show_table(columns, ([str(server.get(field) or "") for field in fields] for server in found))


@servers.command("show")
def show_server(which: Which, as_json: AsJson = False) -> None:
    """Show everything about one server."""

    async def work(client: GatewayClient) -> tuple[dict[str, Any], str | None]:
        server = object_in(await client.rest("GET", _path(await find(client, which))))
        return server, None if as_json else await trouble(client, server)

    server, why = run(work)
    if as_json:
        show_json(server)
        return
    for field, value in server.items():
        if value not in (None, [], {}):
            show(f"{field + ':':<20}{_value(value)}")
    if why is not None:
        note(f"It does not answer well: {why}")


@servers.command("update")
def update(
    which: Which,
    name: Annotated[str | None, typer.Option()] = None,
    url: Annotated[str | None, typer.Option(help="The server's endpoint.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    environment: Annotated[str | None, typer.Option(help="development, staging or production.")] = None,
    status: Annotated[str | None, typer.Option(help="active, inactive or archived.")] = None,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Whether anybody is answered, without a credential.")
    ] = None,
    pinning: Annotated[
        str | None, typer.Option(help="What waits for a person: hold changed definitions, strict new ones too, off.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a server; what is not given stays as it is."""
    given = {
        "name": name,
        "base_url": url,
        "description": description,
        "environment": environment,
        "status": status,
        "public": public,
        "pinning": pinning,
    }
    body = {field: value for field, value in given.items() if value is not None}
    if not body:
        raise UsageWrong("Say what to change: see gatehouse servers update --help.")

    async def work(client: GatewayClient) -> Any:
        return await client.rest("PUT", _path(await find(client, which)), body)

    server = object_in(run(work))
    if as_json:
        show_json(server)
    else:
        show(f"Changed {_summary(server)}.")


@servers.command("remove")
def remove(which: Which, as_json: AsJson = False) -> None:
    """Remove a server."""

    async def work(client: GatewayClient) -> tuple[dict[str, Any], Any]:
        server = await find(client, which)
        return server, await client.rest("DELETE", _path(server))

    server, answer = run(work)
    if as_json:
        show_json(answer)
    else:
        show(f"Removed {one_line(str(server.get('name')))}.")
        if job := object_in(answer).get("cleanup_job_id"):
            note(one_line(f"What was kept for it is removed by job {job}: see `gatehouse jobs show`."))


@servers.command("refresh")
def refresh(which: Which, as_json: AsJson = False) -> None:
    """Read again what a server offers."""

    async def work(client: GatewayClient) -> Any:
        return await client.rest("POST", _path(await find(client, which)) + "/capabilities/discover")

    found = object_in(run(work))
    offer = object_in(found.get("capabilities"))
    if as_json:
        show_json(found)
    else:
        show(", ".join(f"{len(offer.get(kind) or ())} {kind}" for kind in ("tools", "resources", "prompts")) + ".")
    if errors := list_in(found.get("errors")):
        raise CommandFailed("Discovery failed: " + "; ".join(map(_value, errors)))


async def find(client: GatewayClient, which: str) -> dict[str, Any]:
    """The one server with this id, slug or name.

    Raises:
        CommandFailed: there is none, or the name belongs to several.
    """
    known = await client.pages(SERVERS, "servers")
    for field in ("id", "slug", "name"):
        matching = [server for server in known if server.get(field) == which]
        if len(matching) > 1:
            slugs = ", ".join(str(server.get("slug") or server["id"]) for server in matching)
            raise CommandFailed(f"Several servers are named {which}: say which by its slug ({slugs}).")
        if matching:
            return matching[0]
    raise CommandFailed(f"There is no server {which}: `gatehouse servers list` shows what there is.")


async def trouble(client: GatewayClient, server: dict[str, Any]) -> str | None:
    """Why a server is not well, as its last check found; `None` where nothing is known against it."""
    if server.get("health_status") in ("healthy", "unknown"):
        return None
    try:
        report = object_in(await client.rest("GET", f"{_path(server)}/health"))
    except CommandFailed as error:
        return error.message
    return str(report.get("error_message") or "no reason given")


def _path(server: dict[str, Any]) -> str:
    return f"{SERVERS}/{quote(str(server['id']), safe='')}"


def _summary(server: dict[str, Any]) -> str:
    facts = [
        f"{word} {server[field]}"
        for word, field in (("slug", "slug"), ("health", "health_status"))
        if server.get(field)
    ]
    return one_line(f"{server.get('name')} ({', '.join(facts)})" if facts else str(server.get("name")))


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, list_in(value)))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_value(part)}" for name, part in object_in(value).items())
    return one_line(str(value))
