"""The emergency stop on the data path: nothing is admitted, retried or streamed on in a scope that was stopped.

Calls under way are ended as soon as the process learns of the stop, which cancels them at their servers; their
streams end with the same typed error. Streams of change notices go on: they carry nothing from any server, and a
client that lost its stream would only open it again. What is never held is `Attempt.never_held`.

Where stops come from is the port `Stops`, implemented by `registry.emergency.switch`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from gateway.mcp import protocol
from gateway.mcp.upstream.port import UpstreamFailure
from registry.emergency.errors import StopStateUnknown

if TYPE_CHECKING:
    from gateway.mcp.flights import Flights
    from gateway.mcp.policies.policy import Attempt
    from registry.emergency.stop import Stop


class Stops(Protocol):
    def standing(self, org_id: str) -> Stop | None:
        """The stop that an organisation stands under; at once, from memory.

        Raises:
            StopStateUnknown: nobody knows.
        """
        ...

    async def look(self, org_id: str) -> Stop | None:
        """The same, found out anew.

        Raises:
            StopStateUnknown: it cannot be.
        """
        ...


class EmergencyStopInForce(UpstreamFailure):
    """A call that was refused, or ended on its way: then it is unknown what its server did."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(protocol.EMERGENCY_STOP, message, data={"code": "EMERGENCY_STOP", **data})


class StopPolicy:
    """Refuses what is stopped, and ends what is under way when a stop begins (`end_calls`)."""

    def __init__(self, stops: Stops, flights: Flights) -> None:
        self._stops = stops
        self._flights = flights

    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        """Raises `EmergencyStopInForce`."""
        if attempt.never_held:
            return None
        try:
            stop = self._stops.standing(attempt.principal.org_id)
        except StopStateUnknown:
            return self._look_again(attempt.principal.org_id)
        if stop is not None:
            raise _refusal(stop)
        return None

    async def _look_again(self, org_id: str) -> None:
        """It may only have been this process that stood still for a while; if it was not, nothing passes."""
        try:
            stop = await self._stops.look(org_id)
        except StopStateUnknown as error:
            raise EmergencyStopInForce(error.message, scope="unknown", reason=error.message) from error
        if stop is not None:
            raise _refusal(stop)

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """A stop is not used up."""

    def recheck(self, attempt: Attempt) -> None:
        """As `admit`, for a call under way, which goes on while nobody knows: it was admitted when somebody did."""
        try:
            stop = self._stops.standing(attempt.principal.org_id)
        except StopStateUnknown:
            return
        if stop is not None and not attempt.never_held:
            raise _refusal(stop)

    def end_calls(self, stop: Stop) -> int:
        """End the calls under way that `stop` covers; how many there were."""
        ended = [flight for flight in self._flights.under_way() if flight.stoppable and stop.covers(flight.org_id)]
        for flight in ended:
            flight.end(_refusal(stop))
        return len(ended)


def _refusal(stop: Stop) -> EmergencyStopInForce:
    where = "the whole gateway" if stop.org_id is None else "this organisation"
    return EmergencyStopInForce(
        f"An emergency stop is in force for {where}, and nothing passes until a person resumes it: {stop.reason}",
        scope=stop.scope,
        reason=stop.reason,
        since=stop.since.isoformat(),
    )
