"""`gatehouse budget …`: spending and its limits, over `/api/v1/budget`."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, one_line, show, show_json, show_table
from gateway.cli.servers import SERVERS, find

BUDGET = "/api/v1/budget"
LIMITS = f"{BUDGET}/limits"
PAGE = 100

budget = typer.Typer(no_args_is_help=True, help="Show spending, and limit it.")
limits = typer.Typer(no_args_is_help=True, help="Set, change and remove budget limits.")
budget.add_typer(limits, name="limits")

LimitId = Annotated[str, typer.Argument(metavar="ID")]
From = Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day.")]
To = Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day; today where not given.")]
Period = Annotated[str | None, typer.Option(help="hourly, daily, weekly or monthly.")]
Threshold = Annotated[float | None, typer.Option(help="Tell when this fraction is spent, such as 0.8.")]
OnExceed = Annotated[str | None, typer.Option("--action", help="warn, block or pause.")]


@budget.command("summary")
def summary(as_json: AsJson = False) -> None:
    """Show what was spent today, this week and this month."""
    found = object_in(run(lambda client: client.rest("GET", f"{BUDGET}/summary")))
    if as_json:
        show_json(found)
        return
    rows: list[list[str]] = []
    for name in ("today", "week", "month"):
        part = object_in(found.get(name))
        limit = part.get("limit")
        rows.append([name, _usd(part.get("spent")), _usd(limit) if limit is not None else "none"])
    show_table(("period", "spent", "limit"), rows)
    for alert in objects_in(found.get("alerts")):
        show(one_line(f"{alert.get('type')}: {alert.get('message')}"))


@budget.command("timeline")
def timeline(
    start: From = None,
    end: To = None,
    by: Annotated[str, typer.Option(help="day, week or month.")] = "day",
    as_json: AsJson = False,
) -> None:
    """Show spending over time."""
    query = {**_days(start, end), "granularity": by}
    found = object_in(run(lambda client: client.rest("GET", f"{BUDGET}/timeline", query=query)))
    if as_json:
        show_json(found)
        return
    items = objects_in(found.get("items"))
    show_table(
        ("date", "spent", "calls"), ([str(i.get("date")), _usd(i.get("spent")), str(i.get("calls"))] for i in items)
    )


@budget.command("by-project")
def by_project(start: From = None, end: To = None, as_json: AsJson = False) -> None:
    """Show what each project spent."""
    _spenders("by-project", start, end, as_json=as_json)


@budget.command("by-agent")
def by_agent(start: From = None, end: To = None, as_json: AsJson = False) -> None:
    """Show what each agent spent."""
    _spenders("by-agent", start, end, as_json=as_json)


def _spenders(which: str, start: str | None, end: str | None, *, as_json: bool) -> None:
    found = object_in(run(lambda client: client.rest("GET", f"{BUDGET}/{which}", query=_days(start, end))))
    if as_json:
        show_json(found)
        return
    rows = [[str(item.get("name")), _usd(item.get("spent"))] for item in objects_in(found.get("items"))]
    show_table(("name", "spent"), [*rows, ["(none)", _usd(found.get("unassigned"))]])


@budget.command("timezone")
def timezone(
    name: Annotated[
        str | None, typer.Argument(help="Like Europe/Berlin; without it, the present one is shown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show or set the time zone in which days, weeks and months begin."""
    path = f"{BUDGET}/timezone"

    async def work(client: GatewayClient) -> Any:
        return await (client.rest("GET", path) if name is None else client.rest("PUT", path, {"timezone": name}))

    found = object_in(run(work))
    if as_json:
        show_json(found)
    else:
        show(str(found.get("timezone")))


@budget.command("price")
def price(
    server: Annotated[str, typer.Argument(metavar="NAME|ID|SLUG")],
    tool: Annotated[str, typer.Argument(help="The server's own name of the tool.")],
    usd: Annotated[str, typer.Argument(help="Dollars per call; `none` for the server's price.")],
    as_json: AsJson = False,
) -> None:
    """Set what one call of a tool costs."""
    body = {"price_usd": None if usd == "none" else _number(usd)}

    async def work(client: GatewayClient) -> Any:
        found = await find(client, server)
        path = f"{SERVERS}/{quote(str(found['id']), safe='')}/tools/{quote(tool, safe='')}/price"
        return await client.rest("PUT", path, body)

    answer = object_in(run(work))
    if as_json:
        show_json(answer)
    else:
        show(one_line(f"{tool} costs {_usd(body['price_usd']) if usd != 'none' else 'what its server does'}."))


@limits.command("list")
def list_limits(as_json: AsJson = False) -> None:
    """List the limits, with what is spent of each."""

    async def work(client: GatewayClient) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        number = pages = 1
        while number <= pages:
            page = object_in(await client.rest("GET", LIMITS, query={"page": number, "limit": PAGE}))
            found += objects_in(page.get("items"))
            number, pages = number + 1, int(page.get("pages") or 0)
        return found

    found = run(work)
    if as_json:
        show_json(found)
        return
    columns = ("name", "scope", "spent", "reserved", "amount", "unit", "period", "action", "resets", "id")
    show_table(columns, map(_row, found))


@limits.command("create")
def create_limit(
    name: str,
    amount: Annotated[float, typer.Argument(help="In the limit's unit.")],
    unit: Annotated[str, typer.Option(help="usd, calls, tokens or minutes.")] = "usd",
    period: Period = None,
    scope: Annotated[str, typer.Option(help="global, organization, user, key, server or tool.")] = "organization",
    scope_id: Annotated[
        str | None, typer.Option("--for", metavar="ID", help="Of the user, key or server; server__tool for a tool.")
    ] = None,
    threshold: Threshold = None,
    action: OnExceed = None,
    as_json: AsJson = False,
) -> None:
    """Set a limit."""
    body = {"name": name, "amount": amount, "unit": unit, "scope_type": scope, "scope_id": scope_id}
    body |= _given(period=period, alert_threshold=threshold, action_on_exceed=action)
    _tell("Set", run(lambda client: client.rest("POST", LIMITS, body)), as_json=as_json)


@limits.command("update")
def update_limit(
    limit_id: LimitId,
    name: Annotated[str | None, typer.Option()] = None,
    amount: Annotated[float | None, typer.Option(help="In the limit's unit.")] = None,
    period: Period = None,
    threshold: Threshold = None,
    action: OnExceed = None,
    as_json: AsJson = False,
) -> None:
    """Change a limit; what is not given stays."""
    body = _given(name=name, amount=amount, period=period, alert_threshold=threshold, action_on_exceed=action)
    _tell("Changed", run(lambda client: client.rest("PATCH", _path(limit_id), body)), as_json=as_json)


@limits.command("resume")
def resume_limit(limit_id: LimitId, as_json: AsJson = False) -> None:
    """Let calls pass again that a used-up limit has paused."""
    _tell("Resumed", run(lambda client: client.rest("POST", _path(limit_id) + "/resume")), as_json=as_json)


@limits.command("delete")
def delete_limit(limit_id: LimitId, as_json: AsJson = False) -> None:
    """Remove a limit."""
    _tell("Removed", run(lambda client: client.rest("DELETE", _path(limit_id))), as_json=as_json)


def _tell(done: str, answer: Any, *, as_json: bool) -> None:
    limit = object_in(answer)
    if as_json:
        show_json(limit)
    else:
        show(one_line(f"{done} {limit.get('name') or 'limit'} ({limit.get('id')})."))


def _row(limit: dict[str, Any]) -> list[str]:
    scope = f"{limit.get('scope_type')} {limit.get('scope_id') or ''}".strip()
    action = f"{limit.get('action_on_exceed')}{' (paused)' if limit.get('paused') else ''}"
    numbers = [f"{limit.get(field) or 0:g}" for field in ("spent", "reserved", "amount")]
    rest = [str(limit.get(field)) for field in ("unit", "period")]
    return [str(limit.get("name")), scope, *numbers, *rest, action, str(limit.get("resets_at")), str(limit.get("id"))]


def _path(limit_id: str) -> str:
    return f"{LIMITS}/{quote(limit_id, safe='')}"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _days(start: str | None, end: str | None) -> dict[str, str]:
    return _given(start_date=start, end_date=end)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is not a number of dollars.") from None


def _usd(value: Any) -> str:
    return f"${float(value or 0):.6f}".rstrip("0").rstrip(".")
