"""The event bus: how something lower tells something higher, and features tell each other, without an import.

An event is a frozen dataclass declared in the feature that publishes it. Handlers run in the publisher's task, right
after the transaction that caused the event has been committed (see `registry.core.db.Database.transaction`), so they
must be quick; longer work starts a task of its own. In-process only: fan-out between processes is a subscriber.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


E = TypeVar("E", bound=Event)
Handler = Callable[[Any], None]


class EventBus:
    """Delivers each published event to the handlers of its class and of its base classes."""

    def __init__(self) -> None:
        self._handlers: dict[type[Event], list[Handler]] = {}

    def subscribe(self, kind: type[E], handler: Callable[[E], None]) -> Callable[[], None]:
        """Call `handler` for every event of `kind`; the returned function ends the subscription."""
        handlers = self._handlers.setdefault(kind, [])
        handlers.append(handler)

        def unsubscribe() -> None:
            if handler in handlers:
                handlers.remove(handler)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Deliver `event`. A failing handler is logged and never stops the others or the publisher."""
        for kind in type(event).__mro__:
            for handler in tuple(self._handlers.get(kind, ())):
                try:
                    handler(event)
                except Exception:
                    log.exception("event handler failed", event_type=type(event).__name__)
