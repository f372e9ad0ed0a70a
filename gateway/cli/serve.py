"""`gatehouse serve`: settings, then the gateway. What serving means is in `gateway.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.errors import UsageWrong


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; GATEHOUSE_DATA_DIR, else ~/.gatehouse.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; more than one needs GATEHOUSE_REDIS_URL.", min=1)] = 1,
) -> None:
    """Run the gateway."""
    # The gateway with all that it stands on takes half a second to load, and the client commands need none of it.
    from gateway.app import serve as serve_gateway
    from registry.core.settings import SettingsInvalid, load_settings

    try:
        settings = load_settings(data_dir=data_dir)
    except SettingsInvalid as error:
        raise UsageWrong(error.message) from error
    serve_gateway(settings, host, port, workers)
