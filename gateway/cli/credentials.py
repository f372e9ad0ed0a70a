"""`gatehouse workspaces credentials …`: what git shows to remotes, over `/v1/workspaces-credentials`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import CommandFailed
from gateway.cli.output import AsJson, show, show_json, show_table

PATH = "/v1/workspaces-credentials"

credentials = typer.Typer(no_args_is_help=True, help="Keep credentials that git shows to remotes.")


@credentials.command("list")
def list_credentials(as_json: AsJson = False) -> None:
    """List the remotes that there are credentials for; passwords are never shown."""
    found = run(_all)
    if as_json:
        show_json(found)
        return
    fields = ("origin", "username", "updated_at")
    show_table(fields, ([str(one.get(field)) for field in fields] for one in found))


@credentials.command("keep")
def keep(
    url: Annotated[str, typer.Argument(help="Of the remote: https://host; a path plays no part.")],
    username: Annotated[str, typer.Option(help="Whatever the remote wants beside a token.")] = "git",
    as_json: AsJson = False,
) -> None:
    """Keep a password or token, read from standard input: it would be seen in the arguments."""
    if sys.stdin.isatty():
        password = typer.prompt("Password or token", hide_input=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    body = {"url": url, "username": username, "password": password}
    kept = object_in(object_in(run(lambda client: client.rest("PUT", PATH, body))).get("data"))
    if as_json:
        show_json(kept)
    else:
        show(f"Calls of yours to {kept.get('origin')} take it along.")


@credentials.command("forget")
def forget(which: Annotated[str, typer.Argument(metavar="ORIGIN|ID")], as_json: AsJson = False) -> None:
    """Remove a credential."""

    async def work(client: GatewayClient) -> str:
        found = next((one for one in await _all(client) if which in (one.get("id"), one.get("origin"))), None)
        if found is None:
            raise CommandFailed(f"You have none for {which}: `gatehouse workspaces credentials list` shows them.")
        await client.rest("DELETE", f"{PATH}/{found['id']}")
        return str(found["origin"])

    origin = run(work)
    if as_json:
        show_json({"origin": origin, "deleted": True})
    else:
        show(f"Removed the credential for {origin}.")


async def _all(client: GatewayClient) -> list[dict[str, object]]:
    answer = object_in(await client.rest("GET", PATH))
    return objects_in(object_in(answer.get("data")).get("credentials"))
