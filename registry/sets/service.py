"""Sets: create, list, change and remove, say what one offers now, and what the data path needs to know of them.

One method per operation; REST, MCP tools and the command line call the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, new_id
from registry.identity.principal import OPERATE, Principal
from registry.servers.connection import KINDS, Kind, Offered
from registry.sets import queries
from registry.sets.errors import (
    PublicSetNeedsOperator,
    PublicSetSlugTaken,
    SetInvalid,
    SetNotFound,
    SetSlugTaken,
)
from registry.sets.events import SetChanged
from registry.sets.members import Member, SetOffer, ToolChoice, problems
from registry.sets.models import ToolSet
from registry.sets.resolve import Chosen, Missing, Resolution, resolve

_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
MAX_SLUG = 32


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller says of a set that it creates. `name` is the slug where it is not given."""

    slug: str
    members: tuple[Member, ...]
    name: str | None = None
    description: str | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class SetChanges:
    """New values of a set's fields; `None` leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    public: bool | None = None
    members: tuple[Member, ...] | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a set offers now, and what it names in vain."""

    chosen: Sequence[Chosen]
    missing: Sequence[Missing]


class SetService:
    """Operations on sets. Every method of a caller checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit
        self._own: dict[str, list[Offered]] = {}

    def offer_own(self, slug: str, definitions: Iterable[tuple[str, str, str]]) -> None:
        """Let sets choose the gateway's own tools, under a slug that no server can have.

        Args:
            definitions: name, definition as JSON, and permission of each tool.
        """
        self._own[slug] = [Offered("tool", name, definition) for name, definition, _ in definitions]

    async def list(
        self, session: Session, principal: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[Sequence[ToolSet], int]:
        principal.require("sets:read")
        return await queries.page(session, principal, limit=limit, offset=offset)

    async def get(self, session: Session, principal: Principal, slug: str) -> ToolSet:
        """Raises `SetNotFound`."""
        principal.require("sets:read")
        return await self._find(session, principal, slug)

    async def contents(self, session: Session, principal: Principal, made: ToolSet) -> Contents:
        """What the set offers now; its names are those of the set's address."""
        members = members_of(made)
        offered = await self._offered(session, principal, members)
        resolution = _resolve(members, offered)
        parameters = [
            Missing("parameter", chosen.server, chosen.name, problem)
            for chosen, problem in _parameter_problems(resolution, offered)
        ]
        return Contents(resolution.chosen, (*resolution.missing, *parameters))

    async def create(self, session: Session, principal: Principal, draft: Draft) -> ToolSet:
        """Store a new set.

        Raises:
            SetInvalid: a bad slug, something that no server offers, or two that would have one name.
            SetSlugTaken, PublicSetSlugTaken: the slug is in use.
            PublicSetNeedsOperator: `public` without `gateway:operate`.
        """
        principal.require("sets:manage")
        if not _SLUG.fullmatch(draft.slug) or len(draft.slug) > MAX_SLUG:
            raise SetInvalid(
                f"A slug has up to {MAX_SLUG} lower-case letters, digits and single hyphens, and begins with a letter.",
                field="slug",
            )
        if draft.public and not principal.may(OPERATE):
            raise PublicSetNeedsOperator
        if await queries.find(session, principal, draft.slug):
            raise SetSlugTaken(draft.slug)
        await self._check(session, principal, draft.members)
        now = self._clock.now()
        made = ToolSet(
            id=new_id(),
            org_id=principal.org_id,
            slug=draft.slug,
            name=draft.name or draft.slug,
            description=draft.description,
            public=draft.public,
            members=[member.stored() for member in draft.members],
            created_at=now,
            updated_at=now,
        )
        await self._free_of_others(session, made)
        session.add(made)
        await self._changed(session, principal, made, "sets.create")
        return made

    async def update(self, session: Session, principal: Principal, slug: str, changes: SetChanges) -> ToolSet:
        """Change a set; raises as `create` does, and `SetNotFound`."""
        principal.require("sets:manage")
        made = await self._find(session, principal, slug)
        stays_public = made.public and changes.public is not False
        if (changes.public or (stays_public and changes.members is not None)) and not principal.may(OPERATE):
            raise PublicSetNeedsOperator
        if changes.members is not None:
            await self._check(session, principal, changes.members)
            made.members = [member.stored() for member in changes.members]
        for name in ("name", "description", "public"):
            if (value := getattr(changes, name)) is not None:
                setattr(made, name, value)
        made.updated_at = self._clock.now()
        await self._free_of_others(session, made)
        await self._changed(session, principal, made, "sets.update")
        return made

    async def remove(self, session: Session, principal: Principal, slug: str) -> ToolSet:
        """Remove a set; its address answers no more. Raises `SetNotFound`."""
        principal.require("sets:manage")
        made = await self._find(session, principal, slug)
        await session.delete(made)
        await self._changed(session, principal, made, "sets.delete")
        return made

    async def catalog(self, session: Session, org_id: str | None = None) -> list[SetOffer]:
        """Every set; the data path compiles its snapshot from this."""
        return [
            SetOffer(
                org_id=made.org_id,
                slug=made.slug,
                name=made.name,
                description=made.description,
                public=made.public,
                members=members_of(made),
            )
            for made in await queries.all_sets(session, org_id)
        ]

    async def _find(self, session: Session, principal: Principal, slug: str) -> ToolSet:
        if made := await queries.find(session, principal, slug):
            return made
        raise SetNotFound

    async def _changed(self, session: Session, principal: Principal, made: ToolSet, action: str) -> None:
        await session.flush()
        emit(session, SetChanged(made.org_id, made.slug))
        detail: dict[str, Any] = {"slug": made.slug, "public": made.public}
        await self._audit.record(session, principal, action, target=("set", made.id), detail=detail)

    async def _free_of_others(self, session: Session, made: ToolSet) -> None:
        with session.no_autoflush:
            if made.public and await queries.public_slug_taken(session, made.slug, made.id):
                raise PublicSetSlugTaken(made.slug)

    async def _check(self, session: Session, principal: Principal, members: Sequence[Member]) -> None:
        """Raises `SetInvalid` for members that could not all be shown as they say."""
        offered = await self._offered(session, principal, members)
        resolution = _resolve(members, offered)
        for missing in resolution.missing:
            if missing.what == "server":
                raise SetInvalid(f"There is no active server {missing.server!r}: register it first.", field="members")
            # Of a server that was never reached, nobody knows yet what it offers.
            if offered[missing.server]:
                raise SetInvalid(f"{missing.server}: {missing.name!r}: {missing.reason}", field="members")
        for collision in resolution.collisions:
            raise SetInvalid(
                f"Two {collision.kind}s would be called {collision.name!r}, of {collision.first} and of "
                f"{collision.second}: give one of them another name with `as`, or leave it out.",
                field="members",
            )
        for _, problem in _parameter_problems(resolution, offered):
            raise SetInvalid(problem, field="members")

    async def _offered(
        self, session: Session, principal: Principal, members: Iterable[Member]
    ) -> dict[str, list[Offered]]:
        """What each server of the members offers; servers that are not there are left out."""
        slugs = {member.server for member in members}
        servers, capabilities = await queries.offers(session, principal, slugs)
        slug_of = {server.id: server.slug for server in servers}
        offered: dict[str, list[Offered]] = {slug: [] for slug in slug_of.values()}
        for row in capabilities:
            offered[slug_of[row.server_id]].append(Offered(_kind(row.kind), row.name, row.definition))
        return offered | {slug: own for slug, own in self._own.items() if slug in slugs}


def members_of(made: ToolSet) -> tuple[Member, ...]:
    return tuple(Member.model_validate(member) for member in made.members)


def _resolve(members: Sequence[Member], offered: dict[str, list[Offered]]) -> Resolution:
    return resolve(members, {slug: [(item.kind, item.name) for item in items] for slug, items in offered.items()})


def _parameter_problems(resolution: Resolution, offered: dict[str, list[Offered]]) -> Iterator[tuple[Chosen, str]]:
    for chosen in resolution.chosen:
        if isinstance(chosen.choice, ToolChoice) and chosen.choice.parameters:
            for item in offered[chosen.server]:
                if item.kind == chosen.kind and item.name == chosen.name:
                    yield from ((chosen, problem) for problem in problems(chosen.choice, item.definition))


def _kind(value: str) -> Kind:
    return next(kind for kind in KINDS if kind == value)
