"""`gatehouse keys …`: API keys, over `/v1/api-keys`. A key is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import list_in, object_in
from gateway.cli.errors import CommandFailed
from gateway.cli.output import AsJson, note, show, show_json, show_table

KEYS = "/v1/api-keys"

keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")


@keys.command("create")
def create(
    name: str,
    permission: Annotated[
        list[str] | None, typer.Option(help="Narrows the key; all of the owner's where not given.")
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Tools it may use, such as 'files__*'; all where not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    body: dict[str, Any] = {"name": name}
    if permission:
        body["permissions"] = permission
    if tool:
        body["tools"] = tool
    key = object_in(run(lambda client: client.rest("POST", KEYS, body)))
    if as_json:
        show_json(key)
        return
    if not key.get("api_key"):
        raise CommandFailed("The gateway answered without a key: see `gatehouse keys list` and revoke what it made.")
    # The key alone on stdout, for `KEY=$(gatehouse keys create …)`.
    show(str(key["api_key"]))
    note(f"Key {key.get('id')} is shown this once: keep it now.")


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    found = run(lambda client: client.pages(KEYS, "api_keys"))
    if as_json:
        show_json(found)
        return
    columns = ("id", "name", "prefix", "permissions", "tools", "last used", "expires")
    show_table(columns, map(_row, found))


def _row(key: dict[str, Any]) -> list[str]:
    words = [" ".join(map(str, list_in(key.get(field)))) or "all" for field in ("permissions", "tools")]
    dates = [str(key.get(field) or "never") for field in ("last_used_at", "expires_at")]
    return [str(key.get("id")), str(key.get("name")), str(key.get("prefix")), *words, *dates]


@keys.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Revoke a key; it stops working everywhere within a second."""
    answer = run(lambda client: client.rest("DELETE", f"{KEYS}/{quote(key_id, safe='')}"))
    if as_json:
        show_json(answer or {"id": key_id, "revoked": True})
    else:
        show(f"Revoked key {key_id}.")
