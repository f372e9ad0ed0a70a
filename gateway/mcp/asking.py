"""Asking the person at a client whether a call may pass, in the way of the client's era.

A modern client gets a result that requires input, and comes back with the answer; a legacy one is asked on the stream
of its call, which then goes on. What the answer means is `gateway.mcp.policies.approval`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gateway.mcp import envelope, sse, translate
from gateway.mcp.envelope import Message, ProtocolError, encode
from gateway.mcp.flights import ClientGone, Flight
from gateway.mcp.policies.approval import KEY, Asked, said
from gateway.mcp.rounds import events_of, setter
from registry.pins.flags import made_visible

if TYPE_CHECKING:
    from gateway.mcp.flights import Flights
    from gateway.mcp.request import Request
    from gateway.mcp.sessions import LegacySession
    from gateway.mcp.upstream.port import Answer
    from registry.core.clock import Clock

SHOWN = 2000
"""Characters of the arguments that are shown in a question."""

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Allow this call", "default": False}},
    "required": ["approve"],
}


def question(asked: Asked) -> dict[str, Any]:
    """The parameters of `elicitation/create`."""
    text = made_visible(asked.arguments.decode())
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}\u2026 ({len(text)} characters)"
    message = f"[Gatehouse] {asked.tool} is to be called with {shown}. The rule {asked.rule!r} asks: may it?"
    return {"message": message, "requestedSchema": _SCHEMA}


def modern(asked: Asked, identifier: bytes) -> bytes:
    """The answer that asks a modern client."""
    requests = {KEY: {"method": "elicitation/create", "params": question(asked)}}
    return envelope.result(identifier, translate.input_required(requests, asked.state))


async def legacy(
    asked: Asked,
    request: Request,
    session: LegacySession,
    flights: Flights,
    clock: Clock,
    decide: Callable[[bool], Awaitable[None]],
    again: Callable[[], Awaitable[Answer]],
) -> AsyncIterator[bytes]:
    """The stream of a call that asks a legacy client.

    Args:
        decide: takes the person's answer.
        again: makes the call once more.
    """
    # Nothing hurries a person but the question's own end; a client that gives up says so.
    flight = Flight(None, request.principal.org_id, math.inf, ClientGone)
    flights.take_off(flight)
    session.take_off(request.id, flight)
    try:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        params = envelope.decode_params(encode(question(asked)))
        yield sse.frame(envelope.request(session.expect(setter(future)), "elicitation/create", params))
        while not future.done() and clock.now() < asked.expires_at:
            await asyncio.wait([future], timeout=sse.KEEP_ALIVE_SECONDS)
            if not future.done():
                yield sse.KEEP_ALIVE
        answer = said(future.result().result) if future.done() else None
        if answer is not None:
            await decide(answer)
    except asyncio.CancelledError as error:
        raise (flight.reason() or error) from None
    finally:
        flights.land(flight)
        session.land(request.id, flight)
    try:
        if answer is None:
            raise asked
        async for chunk in events_of(await again()):
            yield chunk
    except ProtocolError as error:
        yield sse.frame(envelope.error(request.id, error))
