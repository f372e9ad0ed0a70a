"""`gatehouse servers import-openapi`: a REST service by its description, from a file of this machine or a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import run
from gateway.cli.data import list_in, object_in
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, note, one_line, show, show_json
from gateway.cli.servers import SERVERS, header_pair

Patterns = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="operationId, tag:NAME, METHOD or 'METHOD /path', with * and ?; repeatable."),
]


def import_openapi(
    name: str,
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="An OpenAPI 3.0 or 3.1 description.")],
    base_url: Annotated[str | None, typer.Option(help="Where the service is; else its first server.")] = None,
    include: Patterns = None,
    exclude: Patterns = None,
    header: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Sent to the service with each call.")] = None,
    environment: Annotated[str, typer.Option(help="development, staging or production.")] = "development",
    as_json: AsJson = False,
) -> None:
    """Register a REST service: each operation that its description has becomes a tool."""
    body: dict[str, Any] = {
        "name": name,
        "environment": environment,
        "include": include or [],
        "exclude": exclude or [],
        "headers": dict(header_pair(text) for text in header or []),
        **_source(source),
    }
    if base_url is not None:
        body["base_url"] = base_url
    server = object_in(run(lambda client: client.rest("POST", f"{SERVERS}/openapi", body)))
    for warning in list_in(server.get("warnings")):
        note(one_line(str(warning)))
    if as_json:
        show_json(server)
        return
    tools = list_in(object_in(server.get("capabilities")).get("tools"))
    show(f"Imported {one_line(str(server.get('name')))} (slug {server.get('slug')}): {len(tools)} tools.")


def _source(source: str) -> dict[str, str]:
    if source.lower().startswith(("http://", "https://")):
        return {"url": source}
    try:
        return {"document": Path(source).read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageWrong(f"{source} cannot be read: {why}.") from None
