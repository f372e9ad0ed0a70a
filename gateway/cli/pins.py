"""`gatehouse pins …`: definitions that wait for a person, over `/v1/mcp/servers/{id}/pins`."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import list_in, object_in, objects_in
from gateway.cli.errors import CommandFailed
from gateway.cli.output import AsJson, one_line, show, show_json

pins = typer.Typer(no_args_is_help=True, help="See and decide what servers describe differently than before.")

Server = Annotated[str, typer.Argument(metavar="ID|SLUG", help="The server.")]
Which = Annotated[str, typer.Argument(metavar="PIN|NAME", help="Id of the pin, or name of the tool or prompt.")]


@pins.command("list")
def list_pins(
    server: Server,
    status: Annotated[str, typer.Option(help="held, approved or all.")] = "held",
    as_json: AsJson = False,
) -> None:
    """Show what is held, with its difference."""
    found = run(lambda client: client.rest("GET", _path(server), query={"status": status}))
    if as_json:
        show_json(found)
        return
    shown = objects_in(object_in(found).get("pins"))
    for pin in shown:
        _show(pin)
    if not shown:
        show(f"Nothing is {'there' if status == 'all' else status}.")


@pins.command("approve")
def approve(server: Server, which: Which, as_json: AsJson = False) -> None:
    """Serve what the server says now; calls pass again."""
    _decide(server, which, "approve", as_json)


@pins.command("keep")
def keep(server: Server, which: Which, as_json: AsJson = False) -> None:
    """Go on serving the approved text; calls pass again."""
    _decide(server, which, "keep", as_json)


def _decide(server: str, which: str, verb: str, as_json: bool) -> None:
    async def work(client: GatewayClient) -> dict[str, Any]:
        held = objects_in(object_in(await client.rest("GET", _path(server))).get("pins"))
        pin = next((pin for pin in held if which in (pin.get("id"), pin.get("name"), pin.get("kind"))), None)
        if pin is None:
            raise CommandFailed(f"Nothing named {which} is held: see gatehouse pins list {server}.")
        path = f"{_path(server)}/{quote(str(pin.get('id')), safe='')}/{verb}"
        return object_in(await client.rest("POST", path, {"digest": pin.get("held_digest")}))

    pin = run(work)
    if as_json:
        show_json(pin)
    else:
        show(one_line(f"{'Approved' if verb == 'approve' else 'Kept'} {pin.get('kind')} {pin.get('name')}."))


def _path(server: str) -> str:
    return f"/v1/mcp/servers/{quote(server, safe='')}/pins"


def _show(pin: dict[str, Any]) -> None:
    show(one_line(f"{pin.get('status')} {pin.get('kind')} {pin.get('name')} ({pin.get('id')})"))
    for text in dict.fromkeys(map(str, [*list_in(pin.get("reasons")), *list_in(pin.get("warnings"))])):
        show(f"  {one_line(text)}")
    if pin.get("difference"):
        show("\n".join(f"    {line}" for line in str(pin["difference"]).splitlines()))
