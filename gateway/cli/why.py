"""`gatehouse why TOOL`: which rule decides about calls of a tool, over `/v1/tools/{tool}/why`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, one_line, show, show_json

_MARKS = {True: "yes", False: "NO", None: "-"}


def why(
    tool: Annotated[str, typer.Argument(help="As `gatehouse tools list` shows it.")],
    key: Annotated[int | None, typer.Option(metavar="ID", help="About this key; without it, about one's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which rule decides whether a tool may be called; nothing is called."""
    path = f"/v1/tools/{quote(tool, safe='')}/why"
    query = None if key is None else {"key": key}
    told = object_in(run(lambda client: client.rest("GET", path, query=query)))
    if as_json:
        show_json(told)
        return
    for step in objects_in(told.get("steps")):
        show(f"{_MARKS[step.get('passes')]:<5}{step.get('rule')!s:<16}{one_line(str(step.get('detail')))}")
    if told.get("allowed"):
        show(one_line(f"{told.get('principal')} may call {tool}."))
    else:
        show(one_line(f"{told.get('principal')} may not call {tool}: {told.get('decided_by')} decides."))
