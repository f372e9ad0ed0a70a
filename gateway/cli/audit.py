"""`gatehouse audit …`: search, export and verify the audit log, over `/v1/audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gateway.cli.client import GatewayClient, refusal, run
from gateway.cli.data import list_in, object_in, objects_in, parsed
from gateway.cli.errors import CommandFailed, UsageWrong
from gateway.cli.output import AsJson, note, one_line, show, show_json, show_table

AUDIT = "/v1/audit"

audit = typer.Typer(no_args_is_help=True, help="Search, export and verify the audit log.")

Since = Annotated[str | None, typer.Option(metavar="TIME", help="Then or later, such as 2026-11-22T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before.")]
Principal = Annotated[str | None, typer.Option(help="key:ID, user:ID, or a user's id.")]
Action = Annotated[str | None, typer.Option(help="Such as servers.create, 'servers.*' or tools/call.")]
Outcome = Annotated[str | None, typer.Option(help="done, refused, failed; of calls ok, tool_error, denied, …")]
RecordKind = Annotated[str | None, typer.Option(help="changes or calls.")]


@audit.command("search")
def search(
    since: Since = None,
    until: Until = None,
    principal: Principal = None,
    action: Action = None,
    outcome: Outcome = None,
    kind: RecordKind = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """List records, newest first."""
    query = _query(since, until, principal, action, outcome, kind) | {"limit": limit}
    found = object_in(run(lambda client: client.rest("GET", AUDIT, query=query)))
    if as_json:
        show_json(found)
        return
    columns = ("at", "principal", "action", "target", "outcome")
    fields = ("at", "subject", "action", "target_id", "outcome")
    show_table(columns, ([str(entry.get(field) or "") for field in fields] for entry in objects_in(found["entries"])))


@audit.command("export")
def export(
    since: Since = None,
    until: Until = None,
    principal: Principal = None,
    action: Action = None,
    outcome: Outcome = None,
    kind: RecordKind = None,
    csv: Annotated[bool, typer.Option("--csv", help="CSV instead of JSON lines.")] = False,
) -> None:
    """Write all matching records to stdout."""
    query = _query(since, until, principal, action, outcome, kind) | {"format": "csv" if csv else "jsonl"}

    async def work(client: GatewayClient) -> None:
        async with client.open("GET", f"{AUDIT}/export?{urlencode(query)}") as answer:
            if answer.status != 200:
                raise refusal(client.address, answer.status, await answer.read())
            async for chunk in answer.chunks():
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    run(work)


@audit.command("verify")
def verify(
    heads: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Heads that an earlier run kept; they are brought up to date if all is well."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify that no record was changed, moved, removed or put in; name those that were."""
    body = {"heads": _known(heads)}
    report = object_in(run(lambda client: client.rest("POST", f"{AUDIT}/verify", body)))
    if as_json:
        show_json(report)
    problems = objects_in(report.get("problems"))
    if not report.get("ok"):
        for problem in () if as_json else problems:
            show(one_line(str(problem.get("message"))))
        raise CommandFailed(f"The audit log was tampered with: {report.get('found')} problems.")
    if heads is not None:
        _keep(heads, report.get("heads"))
    if not as_json:
        show(f"{report.get('rows')} records are as they were written.")
        if report.get("unlinked"):
            note(f"{report.get('unlinked')} of them are from before there were chains: nothing vouches for those.")


def _keep(heads: Path, found: Any) -> None:
    try:
        heads.write_text(json.dumps(found) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"All is well, but the heads cannot be kept in {heads}: {error.strerror}.") from None


def _known(heads: Path | None) -> list[Any]:
    if heads is None or not heads.exists():
        return []
    try:
        known = parsed(heads.read_bytes())
    except OSError as error:
        raise UsageWrong(f"{heads} cannot be read: {error.strerror}.") from None
    if not isinstance(known, list):
        raise UsageWrong(f"{heads} does not hold the heads of an earlier verification.")
    return list_in(known)


def _query(
    since: str | None,
    until: str | None,
    principal: str | None,
    action: str | None,
    outcome: str | None,
    kind: str | None,
) -> dict[str, Any]:
    given = {
        "since": since,
        "until": until,
        "principal": principal,
        "action": action,
        "outcome": outcome,
        "kind": kind,
    }
    return {name: value for name, value in given.items() if value is not None}
