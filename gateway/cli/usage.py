"""`gatehouse usage …`: calls, one by one or in sum, over `/v1/usage`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, cast

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, show, show_json, show_table

USAGE = "/v1/usage"

usage = typer.Typer(no_args_is_help=True, help="Show who called what, how often, and what it cost.")

_FILTERS: dict[str, Any] = {
    "since": Annotated[str | None, typer.Option(metavar="TIME", help="Then or later, such as 2026-11-22T12:00:00Z.")],
    "until": Annotated[str | None, typer.Option(metavar="TIME", help="Before.")],
    "server": Annotated[str | None, typer.Option(metavar="SLUG")],
    "name": Annotated[str | None, typer.Option(help="Of the tool or prompt, or the resource's URI.")],
    "outcome": Annotated[str | None, typer.Option(help="ok, tool_error, error, denied, not_sent or unknown.")],
    "user_id": Annotated[str | None, typer.Option("--user", metavar="ID")],
    "key_id": Annotated[int | None, typer.Option("--key", metavar="ID", help="Of an API key.")],
}
"""What says which calls are meant: the same for every command, by the names of the routes' parameters."""


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command these options; what was given of them is its first argument."""

    @wraps(command)
    def filled(**given: Any) -> None:
        query = {name: value for name in _FILTERS if (value := given.pop(name)) is not None}
        command(query, **given)

    _, *own = signature(command, eval_str=True).parameters.values()
    options = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=of) for name, of in _FILTERS.items()]
    own = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own]
    cast("Any", filled).__signature__ = Signature([*own, *options])
    return filled


@usage.command("summary")
@_filtered
def summary(query: dict[str, Any], as_json: AsJson = False) -> None:
    """Sum up the calls."""
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/summary", query=query)))
    if as_json:
        show_json(found)
        return
    for field, value in found.items():
        show(f"{field + ':':<20}{value}")


@usage.command("by")
@_filtered
def by(
    query: dict[str, Any],
    group: Annotated[str, typer.Argument(help="server, tool, user, key, outcome, hour or day.")] = "tool",
    as_json: AsJson = False,
) -> None:
    """The same sums by what calls have in common."""
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/groups", query={**query, "by": group})))
    if as_json:
        show_json(found)
        return
    groups = objects_in(found.get("groups"))
    fields = [field for field in (groups[0] if groups else {}) if field != "key"]
    show_table((group, *fields), ([str(row.get(field)) for field in ("key", *fields)] for row in groups))


@usage.command("calls")
@_filtered
def calls(
    query: dict[str, Any],
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: AsJson = False,
) -> None:
    """List single calls, newest first."""
    found = object_in(run(lambda client: client.rest("GET", f"{USAGE}/calls", query={**query, "limit": limit})))
    if as_json:
        show_json(found)
        return
    rows = objects_in(found.get("calls"))
    fields = ("at", "server", "name", "outcome", "duration_ms", "cost_usd", "user_id", "key_id")
    show_table(fields, ([str(row.get(field)) for field in fields] for row in rows))
