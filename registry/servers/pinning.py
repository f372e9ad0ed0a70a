"""What servers need of whoever guards definitions: to say what of an offer is served. `registry.pins` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from registry.core.db import Session
from registry.servers.connection import Held, Offer

if TYPE_CHECKING:
    from registry.servers.models import Server


class Pinning(Protocol):
    async def judge(self, session: Session, server: Server, offer: Offer) -> Offer:
        """What is served of an offer: definitions as they are approved, and warnings about the others."""
        ...

    async def held(self, session: Session, org_id: str | None) -> dict[str, Held]:
        """By server id: what must not be called, of one organisation or of all."""
        ...


class Unpinned:
    """Everything is served as it is offered."""

    async def judge(self, session: Session, server: Server, offer: Offer) -> Offer:
        return offer

    async def held(self, session: Session, org_id: str | None) -> dict[str, Held]:
        return {}
