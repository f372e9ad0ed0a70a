"""Streams without an end of their own: GET of a legacy session, `subscriptions/listen`, and HTTP+SSE.

Each ends with its client, its session or the gateway, and one caller may have so many of them. What they carry is made
by others (`gateway.mcp.notices`, `gateway.mcp.replay`, `gateway.mcp.sse_clients`); callers without a credential are
counted by their address instead (`gateway.mcp.visits`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gateway.mcp import protocol, translate
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.flights import ClientGone, Flight, Flights, Receive

if TYPE_CHECKING:
    from gateway.mcp.session import LegacySession
    from registry.identity.principal import Principal


class TooManyStreams(ProtocolError):
    """Answered as RATE_LIMITED; the status is for exchanges that have no JSON-RPC answer."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            protocol.RATE_LIMITED,
            f"{limit} streams of this caller are open: close some, or have an administrator raise "
            "GATEHOUSE_MAX_STREAMS_PER_CALLER.",
            data={"code": "TOO_MANY_STREAMS", "limit": limit},
            status=429,
        )


class Streams:
    """The open streams of this process.

    Args:
        most: of one caller at a time; 0 is no limit.
    """

    def __init__(self, flights: Flights, most: int) -> None:
        self._flights = flights
        self._most = most
        self._open: Counter[str] = Counter()

    def open(
        self,
        principal: Principal,
        receive: Receive | None,
        events: AsyncIterator[bytes],
        session: LegacySession | None = None,
    ) -> AsyncIterator[bytes]:
        """The events, until their client goes away or its session ends, which raises `ClientGone`.

        Args:
            receive: `None` where the events go over another stream's connection, which is the one that counts.

        Raises:
            TooManyStreams: the caller has as many as there may be.
        """
        counted = receive is not None and principal.place is None
        if counted and self._most and self._open[principal.subject] >= self._most:
            raise TooManyStreams(self._most)
        return self._attended(principal, receive, events, session, counted=counted)

    async def _attended(
        self,
        principal: Principal,
        receive: Receive | None,
        events: AsyncIterator[bytes],
        session: LegacySession | None,
        *,
        counted: bool,
    ) -> AsyncIterator[bytes]:
        flight = Flight(receive, principal.org_id, math.inf, ClientGone)
        self._flights.take_off(flight)
        self._open[principal.subject] += counted
        if session is not None:
            session.streams.add(flight)
        try:
            async for event in events:
                yield event
        except asyncio.CancelledError as error:
            raise (flight.reason() or error) from None
        finally:
            self._flights.land(flight)
            if session is not None:
                session.streams.discard(flight)
            self._open[principal.subject] -= counted
            if not self._open[principal.subject]:
                del self._open[principal.subject]
            await translate.close(events)
