"""`gatehouse approvals …`: calls that wait for a person, and the rules behind them, over `/v1/approvals`."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in, parsed
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, one_line, show, show_json, show_table

APPROVALS = "/v1/approvals"
COMPARISONS = ("matches", "equals", "gte", "gt", "lte", "lt", "exists")

approvals = typer.Typer(no_args_is_help=True, help="See and decide calls that wait for a person.")
rules = typer.Typer(no_args_is_help=True, help="Say which calls wait.")
approvals.add_typer(rules, name="rules")

Which = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse approvals list` shows it.")]
Reason = Annotated[str | None, typer.Option(help="Told to the caller where it is denied, and kept.")]


@approvals.command("list")
def list_approvals(
    status: Annotated[str, typer.Option(help="waiting, approved, denied, used, expired or all.")] = "waiting",
    as_json: AsJson = False,
) -> None:
    """Show the calls that wait, or what became of others."""
    query = {"status": status, "limit": 1000}
    found = object_in(run(lambda client: client.rest("GET", APPROVALS, query=query)))
    if as_json:
        show_json(found)
        return
    columns = ("id", "status", "tool", "arguments", "caller", "rule", "expires")
    fields = ("id", "status", "tool", "arguments", "subject", "rule", "expires_at")
    show_table(columns, ([str(row.get(field)) for field in fields] for row in objects_in(found.get("approvals"))))


@approvals.command("approve")
def approve(which: Which, reason: Reason = None, as_json: AsJson = False) -> None:
    """Let a call pass, once."""
    _decide(which, "approve", reason, as_json)


@approvals.command("deny")
def deny(which: Which, reason: Reason = None, as_json: AsJson = False) -> None:
    """Refuse a call."""
    _decide(which, "deny", reason, as_json)


@rules.command("list")
def list_rules(as_json: AsJson = False) -> None:
    """Show the rules."""
    found = object_in(run(lambda client: client.rest("GET", f"{APPROVALS}/rules")))
    if as_json:
        show_json(found)
        return
    rows = objects_in(found.get("rules"))
    show_table(("id", "name", "tool", "when", "asks"), map(_row, rows))


@rules.command("create")
def create_rule(
    name: str,
    tool: Annotated[str, typer.Option(help="Pattern of tool names, like files__*.")] = "*",
    destructive: Annotated[bool, typer.Option("--destructive", help="Only tools that may destroy something.")] = False,
    argument: Annotated[
        tuple[str, str, str] | None,
        typer.Option(metavar="PATH COMPARE VALUE", help=f"COMPARE is one of {', '.join(COMPARISONS)}."),
    ] = None,
    min_price: Annotated[float | None, typer.Option(metavar="USD", help="Only calls that cost as much.")] = None,
    inbox: Annotated[bool, typer.Option("--inbox", help="Never ask the person at the caller's client.")] = False,
    expires: Annotated[int, typer.Option(metavar="SECONDS", help="How long a question waits.")] = 900,
    as_json: AsJson = False,
) -> None:
    """Make calls wait for a person. All that is given must hold."""
    body: dict[str, Any] = {"name": name, "tool": tool, "destructive": destructive, "expires_seconds": expires}
    body["ask"] = "inbox" if inbox else "caller"
    if min_price is not None:
        body["min_price_usd"] = min_price
    if argument is not None:
        path, compare, value = argument
        if compare not in COMPARISONS:
            raise UsageWrong(f"--argument compares by one of {', '.join(COMPARISONS)}, not {compare!r}.")
        body["argument"] = {"path": path, "compare": compare, "value": _value(compare, value)}
    made = object_in(run(lambda client: client.rest("POST", f"{APPROVALS}/rules", body)))
    if as_json:
        show_json(made)
    else:
        show(one_line(f"Created rule {made.get('name')} ({made.get('id')})."))


@rules.command("delete")
def delete_rule(which: Which, as_json: AsJson = False) -> None:
    """Delete a rule."""
    answer = run(lambda client: client.rest("DELETE", f"{APPROVALS}/rules/{quote(which, safe='')}"))
    if as_json:
        show_json(answer)
    else:
        show(f"Deleted rule {which}.")


def _decide(which: str, verb: str, reason: str | None, as_json: bool) -> None:
    path = f"{APPROVALS}/{quote(which, safe='')}/{verb}"
    made = object_in(run(lambda client: client.rest("POST", path, {"reason": reason})))
    if as_json:
        show_json(made)
    elif verb == "approve":
        show(one_line(f"Approved: {made.get('tool')} passes once, until {made.get('expires_at')}."))
    else:
        show(one_line(f"Denied: {made.get('tool')}."))


def _value(compare: str, text: str) -> Any:
    """A pattern is text; anything else is JSON where it reads as JSON."""
    value = None if compare == "matches" else parsed(text.encode())
    return text if value is None and text != "null" else value


def _row(rule: dict[str, Any]) -> list[str]:
    when = ["destructive"] if rule.get("destructive") else []
    if rule.get("argument"):
        condition = object_in(rule["argument"])
        when.append(f"{condition.get('path')} {condition.get('compare')} {condition.get('value')}")
    if rule.get("min_price_usd") is not None:
        when.append(f"costs {rule['min_price_usd']} USD or more")
    return [str(rule.get("id")), str(rule.get("name")), str(rule.get("tool")), ", ".join(when), str(rule.get("ask"))]
