"""`gatehouse logins …` and `gatehouse accounts …`: how servers are signed in to, and one's own accounts at them."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.connect import offer_to_open, wait_for_account
from gateway.cli.data import object_in
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, note, one_line, show, show_json, show_table
from gateway.cli.servers import SERVERS, find
from registry.core.clock import SystemClock

ACCOUNTS = "/v1/mcp/accounts"

logins = typer.Typer(no_args_is_help=True, help="Say with whose account requests go to a server.")
accounts = typer.Typer(no_args_is_help=True, help="Bring, connect and forget your own accounts at servers.")

Server = Annotated[str, typer.Argument(metavar="NAME|ID|SLUG", help="The server.")]


@logins.command("show")
def show_login(server: Server, as_json: AsJson = False) -> None:
    """Show how a server is signed in to, and whether your account is connected."""
    _show(_at(server, lambda client, path: client.rest("GET", f"{path}/login")), as_json=as_json)


@logins.command("set")
def set_login(
    server: Server,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="client_credentials, authorization_code or static.")],
    issuer: Annotated[str | None, typer.Option(help="Found out where not given.")] = None,
    client_id: Annotated[str | None, typer.Option(help="The gateway registers itself where not given.")] = None,
    secret_variable: Annotated[
        str | None, typer.Option(metavar="NAME", help="Variable of this shell with the client's secret.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Private key (PEM) in the place of a secret.")
    ] = None,
    scope: Annotated[str, typer.Option(help="Asked for, separated by spaces.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say with whose account requests go to a server: the gateway's, or each person's own."""
    body: dict[str, Any] = {"kind": kind, "issuer": issuer, "client_id": client_id, "scope": scope}
    if secret_variable is not None:
        # Never an argument: those are in everybody's list of processes.
        if not os.environ.get(secret_variable):
            raise UsageWrong(f"The variable {secret_variable} is not set.")
        body["client_secret"] = os.environ[secret_variable]
    if key_file is not None:
        body["private_key"] = key_file.read_text()
    _show(_at(server, lambda client, path: client.rest("PUT", f"{path}/login", body)), as_json=as_json)


@logins.command("remove")
def remove_login(server: Server) -> None:
    """Sign in to a server no more; all accounts at it are over."""
    _at(server, lambda client, path: client.rest("DELETE", f"{path}/login"))
    show("Removed.")


@accounts.command("set")
def bring_account(
    server: Server,
    header: Annotated[
        list[str],
        typer.Option(metavar="NAME=VARIABLE", help="A header, and this shell's variable with its value."),
    ],
) -> None:
    """Bring the headers that your own requests to a server carry."""
    headers: dict[str, str] = {}
    for entry in header:
        name, _, variable = entry.partition("=")
        value = os.environ.get(variable)
        if not value:
            raise UsageWrong(f"The variable {variable or entry!r} is not set: --header NAME=VARIABLE.")
        headers[name] = value
    _at(server, lambda client, path: client.rest("PUT", f"{path}/account", {"headers": headers}))
    show("Brought.")


@accounts.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the servers that are signed in to, and whether your account is connected."""
    found = run(lambda client: client.pages(ACCOUNTS, "accounts"))
    if as_json:
        show_json({"accounts": found})
        return
    rows = (
        [*(str(row.get(name) or "") for name in ("server", "kind", "issuer")), "yes" if row.get("connected") else "no"]
        for row in found
    )
    show_table(("server", "kind", "issuer", "connected"), rows)


@accounts.command("show")
def show_account(server: Server, as_json: AsJson = False) -> None:
    """Show how you stand with a server, and what became of your latest attempt to connect."""
    _show(_at(server, lambda client, path: client.rest("GET", f"{path}/account")), as_json=as_json)


@accounts.command("connect")
def connect_account(
    server: Server,
    wait: Annotated[bool, typer.Option(help="Wait for the outcome, or only say where to go.")] = True,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to wait.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Connect your account at a server: says what to open in a browser, and waits for the outcome."""

    async def work(client: GatewayClient, path: str) -> dict[str, Any]:
        asked = object_in(await client.rest("POST", f"{path}/account/connect"))
        url = str(asked.get("connect"))
        if not wait:
            if not as_json:
                show(url)
            return asked
        if as_json:
            note(f"Open in a browser: {url}")
        else:
            show(url)
        offer_to_open(url)
        note(f"Waiting up to {seconds:g} s for your account to be connected.")
        return await wait_for_account(client, f"{path}/account", asked, seconds, SystemClock())

    account = _at(server, work)
    if as_json:
        show_json(account)
    elif wait:
        show("Connected.")


@accounts.command("remove")
def forget_account(server: Server) -> None:
    """Forget your account at a server."""
    _at(server, lambda client, path: client.rest("DELETE", f"{path}/account"))
    show("Forgotten.")


def _at(server: str, ask: Callable[[GatewayClient, str], Coroutine[Any, Any, Any]]) -> Any:
    async def work(client: GatewayClient) -> Any:
        found = await find(client, server)
        return await ask(client, f"{SERVERS}/{found.get('id')}")

    return run(work)


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    for name, value in object_in(answer).items():
        show(one_line(f"{name}: {value}"))
