"""`gatehouse jobs …`: work that is carried out behind requests, over `/v1/jobs`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, one_line, show, show_json, show_table

jobs = typer.Typer(no_args_is_help=True, help="See notifications and other work behind requests, and replay it.")


@jobs.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="waiting, done or dead; all if not given.")] = None,
    topic: Annotated[str | None, typer.Option(help="Of this kind only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show jobs, newest first."""
    given = {"status": status, "topic": topic, "limit": str(limit)}
    query = {name: value for name, value in given.items() if value is not None}
    found = run(lambda client: client.rest("GET", "/v1/jobs", query=query))
    if as_json:
        show_json(found)
        return
    rows = [
        [str(job.get(name) or "") for name in ("id", "topic", "status", "attempts", "due_at", "last_error")]
        for job in objects_in(object_in(found).get("jobs"))
    ]
    show_table(["id", "topic", "status", "attempts", "due", "last error"], rows)


@jobs.command("show")
def show_job(job: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show how one job stands."""
    found = run(lambda client: client.rest("GET", f"/v1/jobs/{quote(job, safe='')}"))
    if as_json:
        show_json(found)
        return
    for name, value in object_in(found).items():
        show(one_line(f"{name}: {value}"))


@jobs.command("replay")
def replay(job: Annotated[str, typer.Argument(metavar="ID", help="The dead job.")], as_json: AsJson = False) -> None:
    """Have a dead job tried again."""
    found = run(lambda client: client.rest("POST", f"/v1/jobs/{quote(job, safe='')}/replay"))
    if as_json:
        show_json(found)
    else:
        show(one_line(f"Job {object_in(found).get('id')} is tried again."))
