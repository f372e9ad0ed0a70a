"""Parked calls: what waits in this process for a modern client to come back with the answers a server asked for.

A parked call has a lifetime; when nobody came for it, it is given up and the server is told. The handle is known only
to the client that got it, inside a `requestState` that is sealed for its principal (`gateway.mcp.request_state`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gateway.mcp import envelope, protocol
from gateway.mcp.envelope import Params, ProtocolError

PARKED = "parked:"
ASKED = "request"
"""Key of what a parked server asked, in `inputRequests` and `inputResponses`; further ones are numbered."""
GATHER_SECONDS = 0.02
"""Servers may ask for several things at once: what follows within a moment goes with the first."""
LIFETIME_SECONDS = 300.0
MOST = 1000


class Asking(Protocol):
    """A call whose server waits for answers."""

    @property
    def asked(self) -> dict[str, bytes]:
        """The server's request ids, by the keys that the client was given."""
        ...


T = TypeVar("T", bound=Asking)


@dataclass(slots=True)
class _Slot(Generic[T]):
    value: T
    give_up: Callable[[], None]
    timer: asyncio.TimerHandle


class Parking(Generic[T]):
    """Parked calls of one kind in this process."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot[T]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, value: T, give_up: Callable[[], None]) -> str:
        """Park `value`; `give_up` is called if nobody takes it in time. The answer is its handle."""
        if len(self._slots) >= MOST:
            # The oldest has waited longest and is likeliest to have been forgotten.
            self._expire(next(iter(self._slots)))
        handle = secrets.token_urlsafe(16)
        timer = asyncio.get_running_loop().call_later(LIFETIME_SECONDS, self._expire, handle)
        self._slots[handle] = _Slot(value, give_up, timer)
        return handle

    def take(self, params: Params) -> tuple[T, list[bytes]]:
        """What was parked, once, with the client's answers as messages for the server.

        Args:
            params: of the request by which the client goes on.

        Raises:
            ProtocolError: nothing is parked there; or not all was answered, and it stays parked.
        """
        given = envelope.object_param(params, "inputResponses")
        handle = envelope.text_param(params, "requestState").removeprefix(PARKED)
        slot = self._slots.get(handle)
        if slot is None:
            raise ProtocolError(protocol.INVALID_PARAMS, "requestState has expired or was used: call again without it.")
        asked = slot.value.asked
        missing = [key for key in asked if key not in given]
        if missing:
            raise ProtocolError(protocol.INVALID_PARAMS, f"params.inputResponses must have {', '.join(missing)}.")
        del self._slots[handle]
        slot.timer.cancel()
        return slot.value, [envelope.result(identifier, bytes(given[key])) for key, identifier in asked.items()]

    def clear(self) -> None:
        for handle in list(self._slots):
            self._expire(handle)

    def _expire(self, handle: str) -> None:
        slot = self._slots.pop(handle, None)
        if slot is not None:
            slot.timer.cancel()
            slot.give_up()
