"""Serves on a loopback port: `python -m tests.support.servers.conformance --port P [--era both|legacy|modern]`."""

from __future__ import annotations

import argparse

import uvicorn

from tests.support.servers.conformance.eras import ERAS, OneEra
from tests.support.servers.conformance.server import make_app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--era", choices=ERAS, default="both")
    given = parser.parse_args()
    app = make_app()
    if given.era != "both":
        app = OneEra(app, given.era)
    uvicorn.run(app, host="127.0.0.1", port=given.port, http="h11", log_level="warning", timeout_graceful_shutdown=1)


main()
