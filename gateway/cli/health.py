"""`gatehouse health …` and `gatehouse channels …`: how servers fare, alerts, and where people hear of them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, one_line, show, show_json, show_table
from gateway.cli.servers import SERVERS

CHANNELS = "/v1/notifications/channels"

health = typer.Typer(no_args_is_help=True, help="See how servers fare, and say how they are watched.")
channels = typer.Typer(no_args_is_help=True, help="Say where people hear of alerts: of one server, or of all.")

Server = Annotated[str, typer.Argument(metavar="ID|SLUG", help="The server.")]
Of = Annotated[
    str | None, typer.Option("--server", metavar="ID|SLUG", help="Of this server alone; of all where not given.")
]
Channel = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse channels list` shows it.")]


@health.command("show")
def show_health(server: Server, as_json: AsJson = False) -> None:
    """Show a server's state, its checks and its uptime."""
    found = object_in(run(lambda client: client.rest("GET", _path(server))))
    if as_json:
        show_json(found)
        return
    for name in ("health_status", "last_check_at", "uptime_percentage", "response_time_ms", "error_message"):
        show(one_line(f"{name}: {found.get(name)}"))
    for name, state in object_in(found.get("checks")).items():
        show(one_line(f"{name}: {state}"))


@health.command("config")
def configure(
    server: Server,
    interval: Annotated[int | None, typer.Option(metavar="SECONDS", help="Between checks.")] = None,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="For one attempt.")] = None,
    retries: Annotated[int | None, typer.Option(help="Further attempts before a check has failed.")] = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Whether it is watched.")] = None,
    slow: Annotated[float | None, typer.Option(metavar="MS", help="Slower checks raise an alert.")] = None,
    uptime: Annotated[float | None, typer.Option(metavar="PERCENT", help="A lower uptime raises an alert.")] = None,
    maintenance: Annotated[
        list[str] | None,
        typer.Option(metavar="START/END", help="Times without alerts, in ISO 8601; they replace those there were."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a server is watched, or change what is given."""
    thresholds = _given(response_time_ms=slow, uptime_percentage=uptime)
    changes = _given(
        check_interval_seconds=interval,
        timeout_seconds=timeout,
        retry_count=retries,
        enabled=enabled,
        alert_thresholds=thresholds or None,
        maintenance_windows=[_window(text) for text in maintenance] if maintenance else None,
    )
    path = f"{_path(server)}/config"
    found = object_in(run(lambda client: client.rest("PUT" if changes else "GET", path, changes or None)))
    if as_json:
        show_json(found)
        return
    for name, value in found.items():
        show(one_line(f"{name}: {value}"))


@health.command("alerts")
def list_alerts(
    server: Server,
    every: Annotated[bool, typer.Option("--all", help="Those that are resolved, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a server's alerts, newest first."""
    query = {"open_only": "false" if every else "true"}
    found = object_in(run(lambda client: client.rest("GET", f"{_path(server)}/alerts", query=query)))
    if as_json:
        show_json(found)
        return
    fields = ("id", "severity", "type", "created_at", "resolved_at", "message")
    show_table(fields, ([str(row.get(field) or "") for field in fields] for row in objects_in(found.get("alerts"))))


@health.command("history")
def show_history(
    server: Server,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="ISO 8601; a day ago where not given.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME")] = None,
    by: Annotated[str | None, typer.Option(metavar="STEP", help="1m, 5m, 1h or 1d; else each check.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a server's checks over time."""
    query = _given(start_time=since, end_time=until, granularity=by)
    found = object_in(run(lambda client: client.rest("GET", f"{_path(server)}/metrics", query=query)))
    if as_json:
        show_json(found)
        return
    for name, value in object_in(found.get("summary")).items():
        show(one_line(f"{name}: {value}"))
    fields = ("timestamp", "status", "response_time_ms", "checks", "failed_checks")
    show_table(fields, ([str(row.get(field)) for field in fields] for row in objects_in(found.get("metrics"))))


@health.command("alert")
def raise_alert(
    server: Server,
    message: Annotated[str, typer.Argument(help="What people are told.")],
    kind: Annotated[str, typer.Option("--type", help="A word of your own.")] = "custom_alert",
    severity: Annotated[str, typer.Option(help="info, warning or critical.")] = "warning",
    as_json: AsJson = False,
) -> None:
    """Raise an alert about a server; it stays open until it is resolved."""
    body = {"type": kind, "severity": severity, "message": message}
    made = object_in(run(lambda client: client.rest("POST", f"{_path(server)}/alerts", body)))
    if as_json:
        show_json(made)
    else:
        show(one_line(f"Raised alert {made.get('id')}."))


@health.command("resolve")
def resolve(
    server: Server, alert: Annotated[str, typer.Argument(metavar="ALERT", help="Its id.")], as_json: AsJson = False
) -> None:
    """Close an alert; it comes again if its reason is still there."""
    found = run(lambda client: client.rest("POST", f"{_path(server)}/alerts/{quote(alert, safe='')}/resolve"))
    if as_json:
        show_json(found)
    else:
        show("Resolved.")


@channels.command("list")
def list_channels(server: Of = None, as_json: AsJson = False) -> None:
    """Show where the alerts of a server go, or those of all."""
    found = object_in(run(lambda client: client.rest("GET", _channels(server))))
    if as_json:
        show_json(found)
        return
    fields = ("id", "name", "type", "enabled", "config")
    show_table(fields, ([str(row.get(field)) for field in fields] for row in objects_in(found.get("channels"))))


@channels.command("add")
def add_channel(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="email, slack, webhook, pagerduty or apprise.")],
    name: Annotated[str, typer.Option(help="What it is called.")] = "notifications",
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="WHERE", help="Mail address, URL, or routing key; mail and apprise take several."),
    ] = None,
    server: Of = None,
    as_json: AsJson = False,
) -> None:
    """Have the alerts of a server, or those of all, sent somewhere."""
    body = {"name": name, "type": kind, "config": _config(kind, to or [])}
    made = object_in(run(lambda client: client.rest("POST", _channels(server), body)))
    if as_json:
        show_json(made)
        return
    show(one_line(f"Added {made.get('name')} ({made.get('id')})."))
    for label, secret in object_in(made.get("secrets")).items():
        show(one_line(f"{label}, shown this once: {secret}"))


@channels.command("update")
def update_channel(
    channel: Channel,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Whether it is told anything.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rename a channel, or turn it on or off."""
    body = _given(name=name, enabled=enabled)
    if not body:
        raise UsageWrong("Say what is to change: --name, --on or --off.")
    found = run(lambda client: client.rest("PUT", f"{CHANNELS}/{quote(channel, safe='')}", body))
    if as_json:
        show_json(found)
    else:
        show("Changed.")


@channels.command("test")
def try_channel(channel: Channel, as_json: AsJson = False) -> None:
    """Deliver a test notice now."""
    found = run(lambda client: client.rest("POST", f"{CHANNELS}/{quote(channel, safe='')}/test"))
    if as_json:
        show_json(found)
    else:
        show("Delivered.")


@channels.command("remove")
def remove_channel(channel: Channel) -> None:
    """Remove a channel."""
    run(lambda client: client.rest("DELETE", f"{CHANNELS}/{quote(channel, safe='')}"))
    show("Removed.")


def _path(server: str) -> str:
    return f"{SERVERS}/{quote(server, safe='')}/health"


def _channels(server: str | None) -> str:
    return CHANNELS if server is None else f"{_path(server)}/notifications"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _window(text: str) -> dict[str, str]:
    start, slash, end = text.partition("/")
    if not slash:
        raise UsageWrong(f"{text!r} is no time: use START/END, such as 2030-01-01T00:00Z/2030-01-01T02:00Z.")
    return {"starts_at": start, "ends_at": end}


def _config(kind: str, to: list[str]) -> dict[str, Any]:
    if not to:
        raise UsageWrong("Say where to: --to.")
    several = {"email": "recipients", "apprise": "urls"}
    single = {"slack": "webhook_url", "webhook": "url", "pagerduty": "routing_key"}
    if kind in several:
        return {several[kind]: to}
    if kind not in single:
        raise UsageWrong(f"{kind!r} is no type of channel: use email, slack, webhook, pagerduty or apprise.")
    if len(to) > 1:
        raise UsageWrong(f"A channel of type {kind} has one place to go to.")
    return {single[kind]: to[0]}
