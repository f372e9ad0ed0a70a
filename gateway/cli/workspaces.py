"""`gatehouse workspaces …`: containers to work in, over `/api/v1/workspaces` and `/v1/workspaces`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gateway.cli.client import PAGE, GatewayClient, run
from gateway.cli.credentials import credentials
from gateway.cli.data import list_in, object_in, objects_in
from gateway.cli.errors import CommandFailed
from gateway.cli.output import AsJson, note, one_line, show, show_json, show_table

WORKSPACES = "/api/v1/workspaces"
CONTROL = "/v1/workspaces"
BUILD_SECONDS = 1800.0

workspaces = typer.Typer(no_args_is_help=True, help="Create, start, stop and look into workspaces.")
workspaces.add_typer(credentials, name="credentials")

Which = Annotated[str, typer.Argument(metavar="NAME|ID")]


@workspaces.command("create")
def create(
    name: str,
    image: Annotated[str | None, typer.Option(help="Another image, from the operator's list.")] = None,
    network: Annotated[str | None, typer.Option(help="none, allowlist or open.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A host that it may reach; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Create a workspace; its container starts behind it."""
    body: dict[str, Any] = {"name": name}
    if image is not None:
        body["image"] = image
    if network is not None or allow:
        body["network"] = network or "allowlist"
    if allow:
        body["allowed_hosts"] = allow
    if description is not None:
        body["metadata"] = {"description": description}
    made = _data(run(lambda client: client.rest("POST", WORKSPACES, body)))
    if as_json:
        show_json(made)
    else:
        show(f"Created workspace {made.get('name')} at {made.get('endpoint_url')}.")


@workspaces.command("list")
def list_workspaces(
    user: Annotated[str | None, typer.Option(help="Only those of this user, by id.")] = None, as_json: AsJson = False
) -> None:
    """List the workspaces."""
    found = run(lambda client: _all(client, user))
    if as_json:
        show_json(found)
        return
    fields = ("id", "name", "container_status", "status", "network", "endpoint_url")
    show_table(
        ("id", "name", "container", "status", "network", "endpoint"),
        ([str(one.get(field) or "") for field in fields] for one in found),
    )


@workspaces.command("show")
def show_workspace(which: Which, as_json: AsJson = False) -> None:
    """Show everything about one workspace."""

    async def work(client: GatewayClient) -> Any:
        return await client.rest("GET", f"{WORKSPACES}/{(await find(client, which))['id']}")

    found = _data(run(work))
    if as_json:
        show_json(found)
        return
    found["tools"] = ", ".join(str(tool.get("name")) for tool in objects_in(found.get("tools")))
    for field, value in found.items():
        if value not in (None, "", [], {}):
            show(f"{field + ':':<22}{one_line(str(value))}")


@workspaces.command("start")
def start(which: Which, as_json: AsJson = False) -> None:
    """Let a workspace run."""
    _steer(which, "start", "Starting", as_json)


@workspaces.command("stop")
def stop(which: Which, as_json: AsJson = False) -> None:
    """Let a workspace sleep; its files stay, and a call wakes it."""
    _steer(which, "stop", "Stopping", as_json)


@workspaces.command("restart")
def restart(which: Which, as_json: AsJson = False) -> None:
    """End what runs in a workspace, and start it anew."""
    _steer(which, "restart", "Restarting", as_json)


@workspaces.command("delete")
def delete(which: Which, as_json: AsJson = False) -> None:
    """Delete a workspace."""

    async def work(client: GatewayClient) -> dict[str, Any]:
        found = await find(client, which)
        await client.rest("DELETE", f"{WORKSPACES}/{found['id']}")
        return found

    found = run(work)
    if as_json:
        show_json({"id": found["id"], "deleted": True})
    else:
        show(f"Deleted workspace {found.get('name')}.")


@workspaces.command("logs")
def logs(
    which: Which, tail: Annotated[int, typer.Option(help="So many of the last lines.")] = 100, as_json: AsJson = False
) -> None:
    """Show what a workspace's container has logged."""
    found = objects_in(_look(which, "logs", tail=tail).get("lines"))
    if as_json:
        show_json(found)
        return
    for line in found:
        show(str(line.get("text")))


@workspaces.command("events")
def events(which: Which, as_json: AsJson = False) -> None:
    """Show what happened to a workspace, newest first."""
    found = objects_in(_look(which, "events").get("events"))
    if as_json:
        show_json(found)
    else:
        fields = ("at", "kind", "message")
        show_table(fields, ([str(event.get(field)) for field in fields] for event in found))


@workspaces.command("stats")
def stats(which: Which, as_json: AsJson = False) -> None:
    """Show what a workspace uses now."""
    _tell(_look(which, "stats"), as_json)


@workspaces.command("usage")
def usage(which: Which, as_json: AsJson = False) -> None:
    """Show what a workspace used, hour by hour."""
    found = _look(which, "usage")
    if as_json:
        show_json(found)
        return
    fields = ("hour", "seconds", "cpu_seconds", "memory_gb_seconds", "calls")
    show_table(fields, ([str(hour.get(field)) for field in fields] for hour in objects_in(found.get("hours"))))


@workspaces.command("exec")
def execute(
    which: Which,
    command: list[str],
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Run a command in a workspace; it stands after `--`."""

    async def work(client: GatewayClient) -> Any:
        body = {"command": command, "timeout": timeout}
        return await client.rest("POST", f"{CONTROL}/{(await find(client, which))['id']}/exec", body)

    done = _data(run(work))
    if as_json:
        show_json(done)
    else:
        show(str(done.get("stdout") or "").removesuffix("\n"))
        if done.get("stderr"):
            note(str(done["stderr"]))
    sys.exit(int(done.get("exit_code") or 0))


@workspaces.command("build-image")
def build_image(as_json: AsJson = False) -> None:
    """Build the image of workspaces on the gateway's engine, anew if it is there."""
    built = run(lambda client: client.rest("POST", f"{CONTROL}-image", seconds=BUILD_SECONDS))
    if as_json:
        show_json(built)
    else:
        show(f"Built {_data(built).get('image')}.")


async def find(client: GatewayClient, which: str) -> dict[str, Any]:
    """The one workspace with this id or name.

    Raises:
        CommandFailed: there is none, or several users have one of that name.
    """
    known = await _all(client, None)
    matching = [one for one in known if str(one.get("id")) == which] or [one for one in known if one["name"] == which]
    if len(matching) > 1:
        ids = ", ".join(str(one["id"]) for one in matching)
        raise CommandFailed(f"Several workspaces are named {which}: say which by its id ({ids}).")
    if not matching:
        raise CommandFailed(f"There is no workspace {which}: `gatehouse workspaces list` shows what there is.")
    return matching[0]


async def _all(client: GatewayClient, user: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"per_page": PAGE} | ({"user_id": user} if user else {})
    while True:
        number = len(found) // PAGE + 1
        answer = object_in(await client.rest("GET", WORKSPACES, query={**query, "page": number}))
        page = objects_in(_data(answer).get("workspaces"))
        found += page
        if len(page) < PAGE:
            return found


def _steer(which: str, verb: str, doing: str, as_json: bool) -> None:
    async def work(client: GatewayClient) -> Any:
        return await client.rest("POST", f"{CONTROL}/{(await find(client, which))['id']}/{verb}")

    found = _data(run(work))
    if as_json:
        show_json(found)
    else:
        show(f"{doing} workspace {found.get('name')}.")


def _look(which: str, what: str, **query: Any) -> dict[str, Any]:
    async def work(client: GatewayClient) -> Any:
        found = await find(client, which)
        return await client.rest("GET", f"{CONTROL}/{found['id']}/{what}", query=query)

    return _data(run(work))


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    for field, value in found.items():
        show(f"{field + ':':<22}{', '.join(map(str, list_in(value))) if isinstance(value, list) else value}")


def _data(answer: Any) -> dict[str, Any]:
    return object_in(object_in(answer).get("data"))
