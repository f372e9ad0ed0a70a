"""`gatehouse emergency …`: stop everything, resume it, see what is stopped; over `/api/v1/emergency`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.output import AsJson, one_line, show, show_json

EMERGENCY = "/api/v1/emergency"

emergency = typer.Typer(no_args_is_help=True, help="Stop everything at once, and resume it.")

System = Annotated[bool, typer.Option("--system", help="The whole gateway, not only one's organisation.")]
Reason = Annotated[str | None, typer.Argument(help="Why; shown to everyone who is refused.")]


@emergency.command("pause")
def pause(reason: Reason = None, system: System = False, as_json: AsJson = False) -> None:
    """Stop everything: calls under way are cancelled, new ones refused, until `resume`."""
    answer = object_in(run(lambda client: client.rest("POST", f"{EMERGENCY}/pause-all", _body(system, reason))))
    if as_json:
        show_json(answer)
    else:
        show(f"Stopped. {_line(object_in(answer.get('stop')))}")


@emergency.command("resume")
def resume(reason: Reason = None, system: System = False, as_json: AsJson = False) -> None:
    """End the stop."""
    answer = object_in(run(lambda client: client.rest("POST", f"{EMERGENCY}/resume-all", _body(system, reason))))
    if as_json:
        show_json(answer)
        return
    show(str(answer.get("message")))
    for stop in objects_in(answer.get("still_paused")):
        show(f"Still stopped. {_line(stop)}")


@emergency.command("status")
def status(as_json: AsJson = False) -> None:
    """Show what is stopped."""
    answer = object_in(run(lambda client: client.rest("GET", f"{EMERGENCY}/status")))
    if as_json:
        show_json(answer)
        return
    stops = objects_in(answer.get("stops"))
    for stop in stops:
        show(f"Stopped. {_line(stop)}")
    if not stops:
        show("Nothing is stopped.")


def _body(system: bool, reason: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"scope": "system" if system else "organization"}
    return body if reason is None else {**body, "reason": reason}


def _line(stop: dict[str, Any]) -> str:
    return one_line(
        f"{stop.get('scope')}, since {stop.get('paused_at')}, by {stop.get('paused_by')}: {stop.get('reason')}"
    )
