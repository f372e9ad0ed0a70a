"""Whether a server is left alone because it keeps failing: what the data path knows of it, and stored rows do not.

A Protocol, because the data path is above: `gateway.mcp.upstream.manager` has it. It tells of one process.
"""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import BaseModel


class Circuit(BaseModel):
    """The circuit breaker before one server.

    Args:
        state: `open`: calls fail without being sent; `half_open`: the next one tries whether the server is back.
        failures: calls that failed in a row.
        reason: of the last one.
        retry_after: seconds until a call is let through.
        in_flight, waiting: calls at the server, and calls that wait for a place there.
    """

    state: Literal["closed", "open", "half_open"]
    failures: int
    reason: str | None
    retry_after: float
    in_flight: int
    waiting: int


class Circuits(Protocol):
    def circuit(self, server_id: str) -> Circuit | None:
        """`None` for a server that this process has not called yet."""
        ...
