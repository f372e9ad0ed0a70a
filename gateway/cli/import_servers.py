"""`gatehouse import FILE`: servers from an MCP registry, a `server.json` or a client's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in, parsed
from gateway.cli.errors import UsageWrong
from gateway.cli.local import find_gateway, operator_token
from gateway.cli.output import AsJson, show_json, show_table
from gateway.cli.servers import SERVERS


def import_servers(
    file: Annotated[
        Path, typer.Argument(help="A server.json, a registry's list, .mcp.json, or the file of another MCP client.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be registered.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register the MCP servers that a file names."""
    try:
        document = parsed(file.read_bytes())
    except OSError as error:
        raise UsageWrong(f"{file} cannot be read: {error.strerror}.") from None
    if not isinstance(document, dict):
        raise UsageWrong(f"{file} is no JSON object.")
    body = {"document": object_in(document), "dry_run": dry_run}
    token = operator_token() if find_gateway().local else None
    headers = {"X-Gatehouse-Operator": token} if token else None
    found = object_in(run(lambda client: client.rest("POST", f"{SERVERS}/import", body, headers=headers)))
    if as_json:
        show_json(found)
        return
    fields = ("name", "outcome", "slug", "where", "reason")
    rows = objects_in(found.get("servers"))
    show_table(fields, ([str(row.get(field) or "") for field in fields] for row in rows))
