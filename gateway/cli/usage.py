"""`gatehouse usage …`: calls, one by one or in sum, over `/v1/usage`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, show, show_json, show_table

USAGE = "/v1/usage"

usage = typer.Typer(no_args_is_help=True, help="Show who called what, how often, and what it cost.")

Since = Annotated[str | None, typer.Option(metavar="TIME", help="Then or later, such as 2026-11-22T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before.")]
Server = Annotated[str | None, typer.Option(metavar="SLUG")]
Name = Annotated[str | None, typer.Option(help="Of the tool or prompt, or the resource's URI.")]
Outcome = Annotated[str | None, typer.Option(help="ok, tool_error, error, denied, not_sent or unknown.")]
User = Annotated[str | None, typer.Option(metavar="ID")]
Key = Annotated[int | None, typer.Option(metavar="ID", help="Of an API key.")]


@usage.command("summary")
def summary(
    since: Since = None,
    until: Until = None,
    server: Server = None,
    name: Name = None,
    outcome: Outcome = None,
    user: User = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Sum up the calls."""
    query = _query(since, until, server, name, outcome, user, key)
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/summary", query=query)))
    if as_json:
        show_json(found)
        return
    for field, value in found.items():
        show(f"{field + ':':<20}{value}")


@usage.command("by")
def by(
    group: Annotated[str, typer.Argument(help="server, tool, user, key, outcome, hour or day.")] = "tool",
    since: Since = None,
    until: Until = None,
    server: Server = None,
    name: Name = None,
    outcome: Outcome = None,
    user: User = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The same sums by what calls have in common."""
    query = _query(since, until, server, name, outcome, user, key) | {"by": group}
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/groups", query=query)))
    if as_json:
        show_json(found)
        return
    groups = objects_in(found.get("groups"))
    fields = [field for field in (groups[0] if groups else {}) if field != "key"]
    show_table((group, *fields), ([str(row.get(field)) for field in ("key", *fields)] for row in groups))


@usage.command("calls")
def calls(
    since: Since = None,
    until: Until = None,
    server: Server = None,
    name: Name = None,
    outcome: Outcome = None,
    user: User = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: AsJson = False,
) -> None:
    """List single calls, newest first."""
    query = _query(since, until, server, name, outcome, user, key) | {"limit": limit}
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/calls", query=query)))
    if as_json:
        show_json(found)
        return
    rows = objects_in(found.get("calls"))
    fields = ("at", "server", "name", "outcome", "duration_ms", "cost_usd", "user_id", "key_id")
    show_table(fields, ([str(row.get(field)) for field in fields] for row in rows))


def _query(
    since: str | None,
    until: str | None,
    server: str | None,
    name: str | None,
    outcome: str | None,
    user: str | None,
    key: int | None,
) -> dict[str, Any]:
    given = {
        "since": since,
        "until": until,
        "server": server,
        "name": name,
        "outcome": outcome,
        "user_id": user,
        "key_id": key,
    }
    return {field: value for field, value in given.items() if value is not None}
