"""`gatehouse serve`: settings, then the gateway. What serving means is in `gateway.server`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.errors import UsageWrong

if TYPE_CHECKING:
    from registry.core.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; GATEHOUSE_DATA_DIR, else ~/.gatehouse.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1)] = 1,
) -> None:
    """Run the gateway."""
    settings = read_settings(data_dir)
    # The gateway, with all that it stands on, takes half a second to load; the client commands need none of it.
    from gateway.server import serve as serve_gateway

    raise typer.Exit(serve_gateway(settings, host, port, workers))


def read_settings(data_dir: Path | None = None) -> Settings:
    """The settings as the gateway would have them. Raises `UsageWrong` with what has to be changed."""
    # pydantic takes longer to load than most client commands take to run.
    from registry.core.settings import SettingsInvalid, load_settings

    try:
        return load_settings(data_dir=data_dir)
    except SettingsInvalid as error:
        raise UsageWrong(error.message) from error
