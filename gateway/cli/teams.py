"""`gatehouse teams …`: teams and who is in them, over `/v1/teams`."""

from __future__ import annotations

import uuid
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import CommandFailed, UsageWrong
from gateway.cli.output import AsJson, one_line, show, show_json, show_table

TEAMS = "/v1/teams"

teams = typer.Typer(no_args_is_help=True, help="Teams, which access rules and budget limits can be about.")

Which = Annotated[str, typer.Argument(metavar="TEAM", help="Name or id.")]
User = Annotated[str, typer.Argument(metavar="USER_ID")]


async def team_id(client: GatewayClient, which: str) -> str:
    """The id of a team, which may be named."""
    try:
        return str(uuid.UUID(which))
    except ValueError:
        found = await client.pages(TEAMS, "teams")
    named = [str(team.get("id")) for team in found if team.get("name") == which]
    if not named:
        raise CommandFailed(f"There is no team {which!r}: see `gatehouse teams list`.")
    return named[0]


async def _path(client: GatewayClient, which: str, *more: str) -> str:
    return "/".join((TEAMS, await team_id(client, which), *(quote(part, safe="") for part in more)))


@teams.command("list")
def list_teams(as_json: AsJson = False) -> None:
    """List the teams."""
    found = run(lambda client: client.pages(TEAMS, "teams"))
    if as_json:
        show_json(found)
        return
    fields = ("name", "member_count", "description", "id")
    show_table(("name", "members", "description", "id"), ([str(team.get(name)) for name in fields] for team in found))


@teams.command("show")
def show_team(which: Which, as_json: AsJson = False) -> None:
    """Show who is in a team."""

    async def ask(client: GatewayClient) -> object:
        return await client.rest("GET", await _path(client, which))

    _tell(object_in(run(ask)), as_json)


@teams.command("create")
def create(
    name: str, description: Annotated[str, typer.Option(help="For people.")] = "", as_json: AsJson = False
) -> None:
    """Create a team."""
    body = {"name": name, "description": description}
    made = object_in(run(lambda client: client.rest("POST", TEAMS, body)))
    if as_json:
        show_json(made)
    else:
        show(one_line(f"Created team {made.get('name')} ({made.get('id')})."))


@teams.command("update")
def update(
    which: Which,
    name: Annotated[str | None, typer.Option()] = None,
    description: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Change a team's name or description."""
    body = {key: value for key, value in (("name", name), ("description", description)) if value is not None}
    if not body:
        raise UsageWrong("Say what to change: --name or --description.")

    async def ask(client: GatewayClient) -> object:
        return await client.rest("PUT", await _path(client, which), body)

    _tell(object_in(run(ask)), as_json)


@teams.command("delete")
def delete(which: Which, as_json: AsJson = False) -> None:
    """Delete a team; rules and limits about it apply to nobody any more."""

    async def ask(client: GatewayClient) -> object:
        return await client.rest("DELETE", await _path(client, which))

    answer = run(ask)
    if as_json:
        show_json(answer)
    else:
        show(one_line(f"Deleted team {which}."))


@teams.command("add-member")
def add_member(
    which: Which,
    user: User,
    lead: Annotated[bool, typer.Option("--lead", help="As a lead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a user into a team, or give a member another role."""
    body = {"role": "lead" if lead else "member"}

    async def ask(client: GatewayClient) -> object:
        return await client.rest("PUT", await _path(client, which, "members", user), body)

    _tell(object_in(run(ask)), as_json)


@teams.command("remove-member")
def remove_member(which: Which, user: User, as_json: AsJson = False) -> None:
    """Take a user out of a team."""

    async def ask(client: GatewayClient) -> object:
        return await client.rest("DELETE", await _path(client, which, "members", user))

    _tell(object_in(run(ask)), as_json)


def _tell(team: dict[str, object], as_json: bool) -> None:
    if as_json:
        show_json(team)
        return
    show(one_line(f"{team.get('name')} ({team.get('id')}): {team.get('description') or 'no description'}"))
    members = objects_in(team.get("members"))
    fields = ("email", "role", "user_id")
    show_table(("member", "role", "id"), ([str(member.get(name)) for name in fields] for member in members))
