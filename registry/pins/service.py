"""Decisions about held definitions: see them with their difference, approve one, or keep the approved one.

To approve is to serve what the server says now. To keep is to go on serving the approved text, and to let calls pass
although the server says something else. While neither is done, calls are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.identity.principal import Principal
from registry.pins import queries
from registry.pins.digest import INSTRUCTIONS
from registry.pins.errors import HeldChanged, NothingHeld, NothingToKeep, PinNotFound
from registry.pins.events import DefinitionApproved
from registry.pins.judge import release
from registry.pins.models import Pin
from registry.servers import queries as server_queries
from registry.servers.errors import ServerNotFound
from registry.servers.events import CatalogChanged
from registry.servers.models import Capability, Server

READ = "approvals:read"
DECIDE = "approvals:decide"

Status = Literal["held", "approved", "all"]


class PinService:
    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def list(self, session: Session, principal: Principal, server: str, status: Status = "held") -> Sequence[Pin]:
        """The pins of a server, what is held first.

        Args:
            server: id or slug.

        Raises:
            ServerNotFound
        """
        principal.require(READ)
        found = await self._server(session, principal, server)
        pins = await queries.pins_of(session, found.id)
        return sorted(
            (pin for pin in pins if status == "all" or (pin.held_digest is not None) == (status == "held")),
            key=lambda pin: pin.held_digest is None,
        )

    async def approve(
        self, session: Session, principal: Principal, server: str, pin_id: str, digest: str | None = None
    ) -> Pin:
        """Serve what is held.

        Args:
            digest: of the held definition that was looked at; nothing is approved that has changed since.

        Raises:
            ServerNotFound, PinNotFound, NothingHeld, HeldChanged
        """
        found, pin = await self._held(session, principal, server, pin_id, digest)
        assert pin.held_definition is not None
        before = pin.digest
        pin.digest, pin.definition = pin.held_digest, pin.held_definition
        pin.approved_at, pin.approved_by = self._clock.now(), principal.subject
        release(pin)
        await self._serve(session, found, pin)
        await self._decided(session, principal, found, pin, "pins.approve", before, pin.digest)
        return pin

    async def keep(
        self, session: Session, principal: Principal, server: str, pin_id: str, digest: str | None = None
    ) -> Pin:
        """Go on serving the approved text, and let calls pass. Another change is held again.

        Raises:
            ServerNotFound, PinNotFound, NothingHeld, HeldChanged
            NothingToKeep: nothing was ever approved.
        """
        found, pin = await self._held(session, principal, server, pin_id, digest)
        if pin.digest is None:
            raise NothingToKeep
        kept = pin.held_digest
        release(pin)
        pin.kept_digest = kept
        await self._decided(session, principal, found, pin, "pins.keep", pin.digest, kept)
        return pin

    async def _held(
        self, session: Session, principal: Principal, server: str, pin_id: str, digest: str | None
    ) -> tuple[Server, Pin]:
        principal.require(DECIDE)
        found = await self._server(session, principal, server)
        pin = await queries.find(session, found.id, pin_id)
        if pin is None:
            raise PinNotFound
        if pin.held_digest is None:
            raise NothingHeld
        if digest is not None and digest != pin.held_digest:
            raise HeldChanged
        return found, pin

    async def _server(self, session: Session, principal: Principal, server: str) -> Server:
        by_slug = await server_queries.find_by_slug(session, principal, server)
        found = by_slug or await server_queries.find(session, principal, server)
        if found is None:
            raise ServerNotFound
        return found

    async def _serve(self, session: Session, server: Server, pin: Pin) -> None:
        assert pin.definition is not None
        if pin.kind == INSTRUCTIONS:
            spoken = msgspec.json.decode(pin.definition)[INSTRUCTIONS] or None
            server.server_metadata = {**server.server_metadata, INSTRUCTIONS: spoken}
            return
        row = await queries.capability(session, server.id, pin.kind, pin.name)
        if row is None:
            stored = await server_queries.capabilities_of(session, server.id)
            position = max((other.position for other in stored), default=-1) + 1
            row = Capability(server_id=server.id, kind=pin.kind, name=pin.name, position=position)
            session.add(row)
        row.definition = pin.definition

    async def _decided(
        self,
        session: Session,
        principal: Principal,
        server: Server,
        pin: Pin,
        action: str,
        before: str | None,
        after: str | None,
    ) -> None:
        detail = {"server": server.slug, "kind": pin.kind, "name": pin.name, "approved": before, "held": after}
        await self._audit.record(session, principal, action, target=("pin", pin.id), detail=detail)
        emit(session, CatalogChanged(server.org_id, server.id))
        emit(session, DefinitionApproved(server.org_id, server.id, pin.id, kept=action == "pins.keep"))
