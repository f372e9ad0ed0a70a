"""Waits for a person who connects an account in a browser. What is asked of the gateway is `gateway.cli.accounts`'s."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from typing import Any

import typer

from gateway.cli.client import GatewayClient
from gateway.cli.data import object_in
from gateway.cli.errors import CommandFailed
from gateway.cli.output import note
from registry.core.clock import Clock

POLL_SECONDS = 1.0
TELL_SECONDS = 30.0
"""Somebody who waits hears of it so often."""


def offer_to_open(url: str) -> None:
    """Ask whether to open an address in a browser, where there is somebody to ask."""
    if sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("Open it in a browser?", default=True, err=True):
        webbrowser.open(url)


async def wait_for_account(
    client: GatewayClient,
    path: str,
    before: dict[str, Any],
    seconds: float,
    clock: Clock,
    tell: Callable[[str], None] = note,
) -> dict[str, Any]:
    """The account once it is connected.

    Args:
        path: of the account.
        before: how it stood when it was asked for: an attempt that had ended by then is not this one.
        seconds: to wait.
        tell: hears how it goes.

    Raises:
        CommandFailed: the person or the issuer did not want it, or nothing came of it in time.
    """
    began = heard = clock.monotonic()
    at_issuer = False
    while True:
        account = object_in(await client.rest("GET", path))
        attempt = object_in(account.get("attempt"))
        new = attempt != object_in(before.get("attempt"))
        if (new and attempt.get("state") == "connected") or (account.get("connected") and not before.get("connected")):
            return account
        if new and attempt.get("state") == "failed":
            raise CommandFailed(str(attempt.get("failure") or "The account was not connected."))
        now = clock.monotonic()
        left = began + seconds - now
        if left <= 0:
            raise CommandFailed(f"The account was not connected within {seconds:g} s; its address stays good.")
        if attempt.get("state") == "waiting" and not at_issuer:
            at_issuer = True
            tell("Sent to the issuer; waiting for the way back.")
        elif now - heard >= TELL_SECONDS:
            tell(f"Still waiting: {left:.0f} s left.")
            heard = now
        await clock.sleep(min(POLL_SECONDS, left))
