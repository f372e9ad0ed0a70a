"""One call from admission to record: policies, flight, deadlines, settlement, and the row that tells of it.

The router decides where a call goes; this is what happens around it, whatever transport carries it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.mcp import translate
from gateway.mcp.envelope import UNREADABLE, ProtocolError
from gateway.mcp.flights import Flight, Flights
from gateway.mcp.policies.policy import Attempt, Policy
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, UpstreamFailure
from registry.usage.calls import Call

if TYPE_CHECKING:
    from gateway.mcp.records import Recorder
    from gateway.mcp.request import Request
    from registry.core.clock import Clock


PATIENCE_SECONDS = 900.0
"""Longest life of a call that waits for a person."""


@dataclass(frozen=True, slots=True)
class CallKeeping:
    """What every call needs around it."""

    policies: Sequence[Policy]
    recorder: Recorder
    flights: Flights
    clock: Clock
    recheck: Callable[[Attempt], None]
    """Asked again when a call sets out, before it is repeated, and between the pieces of its answer; raises as a
    policy does."""


class CallUnderWay:
    """A call; ends exactly once, in `finish`."""

    __slots__ = ("_admitted", "_attempt", "_began", "_finished", "_flight", "_keeping", "_loop", "_request")

    def __init__(self, keeping: CallKeeping, request: Request, attempt: Attempt) -> None:
        self._keeping = keeping
        self._request = request
        self._attempt = attempt
        attempt.bytes_in = request.size
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._flight: Flight | None = None
        self._finished = False
        self._admitted: list[Policy] = []

    async def admit(self) -> None:
        """Pass the policies, once. Raises the `ProtocolError` of the one that refuses."""
        try:
            for policy in self._keeping.policies:
                waiting = policy.admit(self._attempt)
                if waiting is not None:
                    await waiting
                self._admitted.append(policy)
        except ProtocolError as error:
            self.finish("denied", error.code, 0)
            raise

    def take_off(self) -> None:
        request, server = self._request, self._attempt.server
        flight = self._flight = Flight(
            # A legacy client that loses its connection has not cancelled: it says so when it does.
            request.receive if request.modern else None,
            request.principal.org_id,
            self._began + server.connection.deadlines.first_byte,
            self._late,
            stoppable=not self._attempt.never_held,
        )
        self._keeping.flights.take_off(flight)
        if request.session is not None:
            request.session.take_off(request.id, flight)
        # Admission may have waited for something, and nothing ends a call that has not taken off.
        self._keeping.recheck(self._attempt)

    def _late(self) -> UpstreamFailure:
        outgoing, slug = self._attempt.outgoing, self._attempt.server.slug
        return outgoing.late(slug) if outgoing is not None else NotSent(slug, "its deadline came first")

    def failed(self, error: BaseException, size: int = 0) -> BaseException:
        """Record a call that has no answer, or only `size` bytes of one; gives what to raise for it."""
        failure: BaseException = error
        if self._flight is not None:
            if isinstance(error, asyncio.CancelledError):
                failure = self._flight.reason() or error
            elif isinstance(error, GeneratorExit):
                # It was ended while its client was slow to read: the cancellation is on its way through the writer.
                failure = self._flight.failure or error
        if isinstance(error, (*UNREADABLE, RecursionError)):
            # The request was read before; what cannot be read is what the server made of its answer.
            failure = OutcomeUnknown(self._attempt.server.slug, "its answer cannot be read")
        if isinstance(failure, UpstreamFailure):
            self.finish(failure.kind, failure.code, size)
        elif isinstance(failure, ProtocolError):
            self.finish("error", failure.code, size)
        else:
            self.finish("unknown", None, size)
        return failure

    async def follow(self, stream: AsyncIterator[bytes], answer: Answer) -> AsyncIterator[bytes]:
        """The answer's stream as it comes, with its deadlines; recorded when it has ended."""
        size = 0
        limits = self._attempt.server.connection.deadlines
        try:
            async for chunk in stream:
                self._keeping.recheck(self._attempt)
                size += len(chunk)
                if self._flight is not None:
                    most = PATIENCE_SECONDS if answer.patient else limits.total
                    self._flight.deadline = min(self._loop.time() + limits.idle, self._began + most)
                yield chunk
        except GeneratorExit as error:
            self.failed(error, size)
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again, as what it means
            raise self.failed(error, size) from None
        else:
            self.finish(answer.outcome, answer.error_code, size)
        finally:
            await translate.close(stream)
            self.finish("unknown", None, size)

    def finish(self, outcome: str, code: int | None, size: int) -> None:
        if self._finished:
            return
        self._finished = True
        keeping, request, attempt = self._keeping, self._request, self._attempt
        if self._flight is not None:
            keeping.flights.land(self._flight)
            if request.session is not None:
                request.session.land(request.id, self._flight)
        attempt.bytes_out = size
        for policy in self._admitted:
            policy.settle(attempt, outcome)
        elapsed = self._loop.time() - self._began
        principal, server = request.principal, attempt.server
        request_id = request.headers.request_id
        keeping.recorder.add(
            Call(
                int((keeping.clock.timestamp() - elapsed) * 1e6),
                principal.org_id,
                principal.user_id,
                principal.key_id,
                server.id,
                server.slug,
                attempt.method,
                attempt.name,
                outcome,
                code,
                int(elapsed * 1e6),
                request.size,
                size,
                # A whole number would come back from the database as another text, and the chain hashes texts.
                float(attempt.cost_usd),
                request_id.decode("latin-1")[:128] if request_id is not None else None,
            )
        )
