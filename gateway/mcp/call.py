"""One call from admission to record: policies, flight, deadlines, settlement, and the row that tells of it.

The router decides where a call goes; this is what happens around it, whatever transport carries it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
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
    from gateway.mcp.tracing import Trace, Tracer
    from gateway.mcp.upstream.guard import Guard
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
    tracer: Tracer | None = None


class CallUnderWay:
    """A call; ends exactly once, in `finish`."""

    __slots__ = (
        "_admitted", "_attempt", "_began", "_finished", "_flight", "_guard", "_keeping", "_request", "_round", "trace",
    )  # fmt: skip

    def __init__(self, keeping: CallKeeping, request: Request, attempt: Attempt) -> None:
        self._keeping = keeping
        self._request = request
        self._attempt = attempt
        attempt.bytes_in = request.size
        self._began = monotonic()
        self._flight: Flight | None = None
        self._finished = False
        self._admitted: list[Policy] = []
        self._guard: Guard | None = None
        self._round = 0
        self.trace: Trace | None = keeping.tracer.begin(attempt) if keeping.tracer is not None else None

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
            lambda: OutcomeUnknown(server.slug, "it did not answer within its deadline"),
            stoppable=not self._attempt.never_held,
        )
        self._keeping.flights.take_off(flight)
        if request.session is not None:
            request.session.take_off(request.id, flight)
        # Admission may have waited for something, and nothing ends a call that has not taken off.
        self._keeping.recheck(self._attempt)

    def enter(self, guard: Guard) -> Awaitable[None] | None:
        """Come to a server; gives what to await where all places there are taken. Raises `NotSent`."""
        self._round = guard.enter()
        turn = guard.places.take()
        if turn is not None:
            return self._wait(guard, turn)
        self._guard = guard
        return None

    async def _wait(self, guard: Guard, turn: asyncio.Future[None]) -> None:
        """Wait for a place, no longer than connecting may take: it is the same to the caller."""
        flight = self._flight
        assert flight is not None
        flight.deadline = monotonic() + self._attempt.server.connection.deadlines.connect
        try:
            await turn
        except asyncio.CancelledError as error:
            guard.places.leave_line(turn)
            reason = flight.reason() or error
            raise (guard.places.late() if isinstance(reason, OutcomeUnknown) else reason) from None
        self._guard = guard
        flight.deadline = self._began + self._attempt.server.connection.deadlines.first_byte
        if guard.breaker.round != self._round:
            # While this call waited, the others have failed.
            self._round = guard.breaker.admit()

    def again(self, failure: UpstreamFailure) -> bool:
        """Whether a call that has failed, and may be repeated, is to be repeated now."""
        if self._guard is None or not failure.blames:
            return False
        of_round = self._guard.again(self._round, failure.reason)
        self._round = self._round if of_round is None else of_round
        return of_round is not None

    def failed(self, error: BaseException, size: int = 0) -> BaseException:
        """Record a call that has no answer, or only `size` bytes of one; gives what to raise for it."""
        failure: BaseException = error
        # What waits for its client to read on says nothing of the server.
        clients = isinstance(error, GeneratorExit)
        if self._flight is not None:
            if isinstance(error, asyncio.CancelledError):
                failure = self._flight.reason() or error
            elif clients:
                # It was ended while its client was slow to read: the cancellation is on its way through the writer.
                failure = self._flight.failure or error
        if isinstance(error, (*UNREADABLE, RecursionError)):
            # The request was read before; what cannot be read is what the server made of its answer.
            failure = OutcomeUnknown(self._attempt.server.slug, "its answer cannot be read")
        if isinstance(failure, OutcomeUnknown) and not self._attempt.sent:
            failure = NotSent(self._attempt.server.slug, "it did not open a session within its deadline")
        if isinstance(failure, UpstreamFailure):
            self._leave(failure.reason, healthy=None if clients or not failure.blames else False)
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
                    self._flight.deadline = min(monotonic() + limits.idle, self._began + most)
                yield chunk
        except GeneratorExit as error:
            self.failed(error, size)
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again, as what it means
            raise self.failed(error, size) from None
        else:
            self._leave(None, healthy=answer.healthy)
            self.finish(answer.outcome, answer.error_code, size)
        finally:
            await translate.close(stream)
            self.finish("unknown", None, size)

    def done(self, answer: Answer) -> None:
        """The call has its whole answer."""
        self._leave(None, healthy=answer.healthy)
        self.finish(answer.outcome, answer.error_code, len(answer.before) + len(answer.body))

    def _leave(self, reason: str | None, *, healthy: bool | None) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.leave(self._round, reason, healthy=healthy)

    def finish(self, outcome: str, code: int | None, size: int) -> None:
        if self._finished:
            return
        self._finished = True
        self._leave(None, healthy=None)
        keeping, request, attempt = self._keeping, self._request, self._attempt
        if self._flight is not None:
            keeping.flights.land(self._flight)
            if request.session is not None:
                request.session.land(request.id, self._flight)
        if self.trace is not None:
            self.trace.end(outcome, code)
        attempt.bytes_out = size
        for policy in self._admitted:
            policy.settle(attempt, outcome)
        elapsed = monotonic() - self._began
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
