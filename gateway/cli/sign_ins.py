"""`gatehouse sessions …` and `gatehouse grants …`: where one is signed in, and which applications act for oneself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import list_in, object_in, objects_in
from gateway.cli.output import AsJson, show, show_json, show_table

SESSIONS = "/v1/auth/sessions"
GRANTS = "/v1/auth/grants"

sessions = typer.Typer(no_args_is_help=True, help="See and end your login sessions.")
grants = typer.Typer(no_args_is_help=True, help="See and take back what applications may do for you.")

Session = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse sessions list` shows it.")]
Grant = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse grants list` shows it.")]


@sessions.command("list")
def list_sessions(as_json: AsJson = False) -> None:
    """List your login sessions."""
    found = object_in(run(lambda client: client.rest("GET", SESSIONS)))
    if as_json:
        show_json(found)
        return
    fields = ("id", "created_at", "last_seen_at", "expires_at")
    show_table(fields, ([str(row.get(name)) for name in fields] for row in objects_in(found.get("sessions"))))


@sessions.command("end")
def end_session(session: Session) -> None:
    """End a session, with all its tokens."""
    run(lambda client: client.rest("DELETE", f"{SESSIONS}/{quote(session, safe='')}"))
    show("Ended.")


@grants.command("list")
def list_grants(as_json: AsJson = False) -> None:
    """List what you have granted to applications."""
    found = object_in(run(lambda client: client.rest("GET", GRANTS)))
    if as_json:
        show_json(found)
        return
    fields = ("id", "client_name", "address", "expires_at")
    rows = (
        [*(str(row.get(name)) for name in fields), " ".join(map(str, list_in(row.get("scopes"))))]
        for row in objects_in(found.get("grants"))
    )
    show_table((*fields, "scopes"), rows)


@grants.command("end")
def end_grant(grant: Grant) -> None:
    """Take back what an application was granted; its tokens end at once."""
    run(lambda client: client.rest("DELETE", f"{GRANTS}/{quote(grant, safe='')}"))
    show("Ended.")
