"""The judge of what a look at a server found: what is served, what is held, and what people should know.

The first look at a server is trusted, with what is not suspicious; later, whatever differs from what is approved is
held until a person decides (`registry.pins.service`). Resources are not pinned: they are data, and change like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, new_id
from registry.pins import flags, queries, schemas
from registry.pins.digest import INSTRUCTIONS, digest_of, instructions_text
from registry.pins.events import DefinitionHeld
from registry.pins.models import Pin
from registry.pins.shadowing import Neighbours, neighbours_of
from registry.servers.connection import Held, Kind, Offer, Offered
from registry.servers.events import CatalogChanged
from registry.servers.models import Server
from registry.servers.names import MAX_NAME, prefixed
from registry.servers.queries import capabilities_of

PINNED_KINDS: tuple[Kind, ...] = ("tool", "prompt")
FIRST_LOOK = "first look"
UNPROMPTED = "server's own"
"""Who approved what nobody was asked about: at the first look, and new things where only changes are held."""
MOST_PINS = 20_000
"""Per server; beyond it, what is offered no more is forgotten."""
CHANGED = "its definition has changed"
NEW = "it is new"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway itself, as the audit log names it."""

    org_id: str
    user_id: None = None
    key_id: None = None
    subject: str = "gateway"


@dataclass(slots=True)
class _Item:
    """Something offered, with what was found about it.

    Args:
        suspicions: reasons to hold it, whatever is pinned.
    """

    kind: str
    name: str
    definition: str
    digest: str
    warnings: list[str]
    suspicions: list[str]


class Judge:
    """`registry.servers.pinning.Pinning`, with records."""

    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def held(self, session: Session, org_id: str | None) -> dict[str, Held]:
        """See `Pinning`."""
        found: dict[str, set[tuple[str, str]]] = {}
        for pin, server in await queries.held(session, org_id):
            if server.pinning != "off":
                found.setdefault(pin.server_id, set()).add((pin.kind, pin.name))
        return {server_id: frozenset(names) for server_id, names in found.items()}

    async def judge(self, session: Session, server: Server, offer: Offer) -> Offer:
        """See `Pinning`. What is held is written down, told and audited."""
        # Two looks at one server, by two processes, must not pin side by side.
        await session.execute(select(Server.id).where(Server.id == server.id).with_for_update())
        offered, warnings = _within_bounds(offer.offered)
        neighbours = neighbours_of(await queries.tools_of_others(session, server.org_id, server.id))
        own = frozenset(item.name for item in offered if item.kind == "tool")
        items = [_examine(server.slug, item, neighbours, own) for item in offered if item.kind in PINNED_KINDS]
        items.append(_examine_instructions(offer.instructions, neighbours, own))
        warnings += [f"{item.kind} {item.name!r}: {text}" for item in items for text in item.warnings]
        warnings += [text for item in offered if item.kind not in PINNED_KINDS for text in _hidden_in(item)]
        if server.pinning == "off":
            return replace(offer, offered=tuple(offered), warnings=(*offer.warnings, *warnings))
        served = await self._pin(session, server, items, warnings)
        kept = [replace(item, definition=served.get((item.kind, item.name), "")) for item in offered
                if item.kind in PINNED_KINDS and (item.kind, item.name) in served]  # fmt: skip
        others = [item for item in offered if item.kind not in PINNED_KINDS]
        spoken = served.get((INSTRUCTIONS, ""))
        return replace(
            offer,
            offered=(*kept, *others),
            instructions=(msgspec.json.decode(spoken)[INSTRUCTIONS] or None) if spoken is not None else None,
            warnings=(*offer.warnings, *warnings),
        )

    async def _pin(
        self, session: Session, server: Server, items: Sequence[_Item], warnings: list[str]
    ) -> dict[tuple[str, str], str]:
        """Compare with the pins and bring them up to date; gives the definitions to be served, by kind and name."""
        pins = {(pin.kind, pin.name): pin for pin in await queries.pins_of(session, server.id)}
        first = not pins
        if first:
            pins = await self._seed(session, server)
            first = not pins
        served: dict[tuple[str, str], str] = {}
        for item in items:
            key = (item.kind, item.name)
            pin = pins.get(key)
            if pin is None:
                pin = pins[key] = Pin(id=new_id(), server_id=server.id, kind=item.kind, name=item.name)
                session.add(pin)
                if not item.suspicions and (first or server.pinning == "hold"):
                    self._approve(pin, item, FIRST_LOOK if first else UNPROMPTED)
            if pin.digest == item.digest:
                pin.definition = item.definition
                if pin.held_digest is not None:
                    emit(session, CatalogChanged(server.org_id, server.id))
                release(pin)
            elif pin.kept_digest != item.digest:
                await self._hold(session, server, pin, item)
                warnings.append(f"{item.kind} {item.name!r} is held: {'; '.join(pin.reasons)}")
            pin.warnings = item.warnings
            if pin.definition is not None:
                served[key] = pin.definition
        await self._forget(session, pins, {(item.kind, item.name) for item in items})
        return served

    async def _seed(self, session: Session, server: Server) -> dict[tuple[str, str], Pin]:
        """Pins for a server that was looked at before there were pins: what is listed now is what was accepted."""
        if server.discovered_at is None or server.server_metadata.get("capabilities") is None:
            return {}
        stored = [(row.kind, row.name, row.definition) for row in await capabilities_of(session, server.id)]
        known = [(kind, name, text) for kind, name, text in stored if kind in PINNED_KINDS]
        known.append((INSTRUCTIONS, "", instructions_text(server.server_metadata.get("instructions"))))
        made: dict[tuple[str, str], Pin] = {}
        for kind, name, text in known:
            pin = made[kind, name] = Pin(id=new_id(), server_id=server.id, kind=kind, name=name)
            self._approve(pin, _Item(kind, name, text, digest_of(text), [], []), FIRST_LOOK)
            session.add(pin)
        return made

    def _approve(self, pin: Pin, item: _Item, by: str) -> None:
        pin.digest, pin.definition = item.digest, item.definition
        pin.approved_at, pin.approved_by = self._clock.now(), by

    async def _hold(self, session: Session, server: Server, pin: Pin, item: _Item) -> None:
        if pin.held_digest == item.digest:
            return
        pin.held_digest, pin.held_definition, pin.held_at = item.digest, item.definition, self._clock.now()
        pin.reasons = [CHANGED if pin.digest is not None else NEW, *item.suspicions]
        detail = {"server": server.slug, "kind": pin.kind, "name": pin.name, "reasons": pin.reasons}
        detail |= {"approved": pin.digest, "held": pin.held_digest}
        actor = Gateway(server.org_id)
        await self._audit.record(session, actor, "pins.hold", target=("pin", pin.id), outcome="refused", detail=detail)
        emit(session, CatalogChanged(server.org_id, server.id))
        emit(session, DefinitionHeld(server.org_id, server.id, pin.id, pin.kind, pin.name, tuple(pin.reasons)))

    async def _forget(self, session: Session, pins: dict[tuple[str, str], Pin], offered: set[tuple[str, str]]) -> None:
        """Let go of what is offered no more: nothing of it waits, and what was never approved was never there."""
        for key, pin in pins.items():
            if key not in offered:
                release(pin)
                if pin.digest is None or len(pins) > MOST_PINS:
                    await session.delete(pin)


def release(pin: Pin) -> None:
    """Nothing is held any more."""
    pin.held_digest = pin.held_definition = pin.held_at = pin.kept_digest = None
    pin.reasons = []


def _within_bounds(offered: Sequence[Offered]) -> tuple[list[Offered], list[str]]:
    """What can be offered at all, each name once, and why the rest cannot."""
    kept: dict[tuple[str, str], Offered] = {}
    warnings: list[str] = []
    for item in offered:
        try:
            beyond = schemas.beyond_bounds(len(item.definition.encode()), _read(item.definition))
        except (msgspec.DecodeError, RecursionError):
            beyond = "its definition cannot be read"
        if beyond is not None:
            warnings.append(f"{item.kind} {item.name[:100]!r} is not offered: {beyond}")
        else:
            # A server that lists one name twice gets its first: two of one name could never be told apart.
            kept.setdefault((item.kind, item.name), item)
    return list(kept.values()), warnings


def _examine(slug: str, item: Offered, neighbours: Neighbours, own: frozenset[str]) -> _Item:
    fields = _read(item.definition)
    warnings: list[str] = []
    suspicions: list[str] = []
    if hidden := flags.invisible("".join(flags.texts(fields))):
        suspicions.append(f"it has invisible characters ({', '.join(hidden[:10])})")
    words = (text for name, value in fields.items() if name != "name" for text in flags.texts(value))
    if mentioned := neighbours.mentioned(words, own):
        suspicions.append(f"it speaks of another server's tools ({', '.join(mentioned[:10])})")
    if scripts := flags.mixed_scripts(item.name):
        warnings.append(f"its name mixes scripts ({', '.join(scripts)})")
    if item.kind == "tool":
        if (other := neighbours.lookalike(item.name)) is not None:
            warnings.append(f"its name looks like another server's {other!r}")
        if others := neighbours.same_name(item.name):
            warnings.append(f"other servers have a tool of this name ({', '.join(others[:10])})")
        if any(flags.look(name) == flags.look(item.name) for name in own - {item.name} if not name.isascii()):
            warnings.append("its name looks like another one's of this server")
    if len(f"{slug}__{item.name}") > MAX_NAME:
        warnings.append(f"its name is too long for clients: they see {prefixed(slug, item.name)!r}")
    if references := schemas.network_references(fields):
        warnings.append(f"its schema refers to {', '.join(references[:5])}, which the gateway never fetches")
    return _Item(item.kind, item.name, item.definition, digest_of(item.definition), warnings + suspicions, suspicions)


def _examine_instructions(text: str | None, neighbours: Neighbours, own: frozenset[str]) -> _Item:
    definition = instructions_text(text)
    suspicions: list[str] = []
    if hidden := flags.invisible(text or ""):
        suspicions.append(f"they have invisible characters ({', '.join(hidden[:10])})")
    if mentioned := neighbours.mentioned([text or ""], own):
        suspicions.append(f"they speak of another server's tools ({', '.join(mentioned[:10])})")
    return _Item(INSTRUCTIONS, "", definition, digest_of(definition), list(suspicions), suspicions)


def _hidden_in(item: Offered) -> list[str]:
    hidden = flags.invisible("".join(flags.texts(_read(item.definition))))
    return [f"{item.kind} {item.name[:100]!r} has invisible characters ({', '.join(hidden[:10])})"] if hidden else []


def _read(definition: str) -> dict[str, Any]:
    return msgspec.json.decode(definition, type=dict[str, Any])
