"""The emergency stop: pressed and ended by a person or an agent, kept in the database until it is ended.

What each process knows of it is `registry.emergency.switch`; what it does to calls is `gateway.mcp.policies.stop`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, insert_into, new_id
from registry.emergency.errors import StopInForce
from registry.emergency.events import EmergencyResumed, EmergencyStopped
from registry.emergency.models import IN_FORCE, EmergencyStop
from registry.emergency.stop import Scope, Stop
from registry.identity.principal import OPERATE, Principal

MANAGE = "emergency:manage"
READ = "mcp:health:read"
SYSTEM = "system"
NO_REASON = "No reason was given."


class EmergencyService:
    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def pause(
        self, session: Session, principal: Principal, scope: Scope = "organization", reason: str | None = None
    ) -> Stop:
        """Stop everything in the scope; where that is stopped already, the stop in force stays as it is.

        Raises:
            Forbidden: `emergency:manage` is missing, or `gateway:operate` for the system.
        """
        place, org_id = _place(principal, scope)
        begun = {
            "id": new_id(),
            "place": place,
            "org_id": org_id,
            "reason": reason or NO_REASON,
            "begun_at": self._clock.now(),
            "begun_by": principal.subject,
            "begun_by_user_id": principal.user_id,
        }
        # Two who press at once must both succeed, so the database decides whose stop it is.
        insert = insert_into(session, EmergencyStop).values(begun)
        await session.execute(insert.on_conflict_do_nothing(index_elements=["place"], index_where=IN_FORCE))
        found = (await session.scalars(_in_force().where(EmergencyStop.place == place))).one()
        stop = as_stop(found)
        mine = stop.id == begun["id"]
        await self._audit.record(
            session,
            principal,
            "emergency.pause",
            target=("emergency_stop", stop.id),
            detail={"scope": scope, "reason": reason or NO_REASON, "already_stopped": not mine},
        )
        if mine:
            emit(session, EmergencyStopped(stop))
        return stop

    async def resume(
        self, session: Session, principal: Principal, scope: Scope = "organization", reason: str | None = None
    ) -> Stop | None:
        """End the scope's stop; gives it, or `None` where nothing was stopped.

        A stop of the system stays in force when an organisation resumes, and the other way round.

        Raises:
            Forbidden: as `pause`.
        """
        place, _ = _place(principal, scope)
        found = (await session.scalars(_in_force().where(EmergencyStop.place == place).with_for_update())).one_or_none()
        stop = None
        if found is not None:
            found.ended_at = self._clock.now()
            found.ended_by = principal.subject
            found.ended_why = reason
            stop = as_stop(found)
            emit(session, EmergencyResumed(stop, principal.subject))
        await self._audit.record(
            session,
            principal,
            "emergency.resume",
            target=("emergency_stop", stop.id) if stop is not None else None,
            detail={"scope": scope, "reason": reason, "was_stopped": stop is not None},
        )
        return stop

    async def status(self, session: Session, principal: Principal) -> Sequence[Stop]:
        """The stops in force that concern the caller's organisation; an operator sees all of them."""
        # Who may stop things may see what is stopped: the answer to a press must never undo it.
        if not principal.may(MANAGE):
            principal.require(READ)
        found = await in_force(session)
        return [stop for stop in found if principal.operates or stop.covers(principal.org_id)]


async def in_force(session: Session) -> list[Stop]:
    """All stops in force, the system's first."""
    rows = await session.scalars(_in_force().order_by(EmergencyStop.begun_at))
    return sorted(map(as_stop, rows), key=lambda stop: stop.scope != SYSTEM)


async def require_no_stop(session: Session, org_id: str) -> None:
    """For what sets something to work past the data path. Raises `StopInForce`."""
    for stop in await in_force(session):
        if stop.covers(org_id):
            raise StopInForce(f"An emergency stop is in force, and nothing runs until it is resumed: {stop.reason}")


def as_stop(row: EmergencyStop) -> Stop:
    scope: Scope = "system" if row.place == SYSTEM else "organization"
    return Stop(row.id, scope, row.org_id, row.reason, row.begun_by, row.begun_at)


def _in_force() -> Select[EmergencyStop]:
    return select(EmergencyStop).where(EmergencyStop.ended_at.is_(None))


def _place(principal: Principal, scope: Scope) -> tuple[str, str | None]:
    principal.require(MANAGE)
    if scope == SYSTEM:
        principal.require(OPERATE)
        return SYSTEM, None
    return principal.org_id, principal.org_id
