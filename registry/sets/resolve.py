"""Which of a set's choices exist, and the name of each in the set. The registry and the data path ask the same.

Names are plain, or what the set says. Where two would be one, the first in the set's order keeps it and the other gets
its server's slug in front. A name that begins with the slug of a server in the set always means that server: a tool
that is called so by itself gets its own server's slug in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.servers.connection import Kind
from registry.servers.names import SEPARATOR, prefixed, prefixed_uri, split_uri
from registry.sets.members import Choice, Member

What = Literal["server", "tool", "resource", "prompt", "parameter"]

_KINDS: tuple[tuple[Literal["tool", "resource", "prompt"], tuple[Kind, ...]], ...] = (
    ("tool", ("tool",)),
    ("resource", ("resource", "template")),
    ("prompt", ("prompt",)),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One capability in a set.

    Args:
        name: the server's own name or URI.
        exposed: its name or URI in the set.
        choice: what the set says of it; `None` where its server was taken whole.
    """

    server: str
    kind: Kind
    name: str
    exposed: str
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a set names and that is not there."""

    what: What
    server: str
    name: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Collision:
    """Two of one kind that the set would give one name; never resources, whose URIs nobody chooses."""

    kind: Kind
    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Resolution:
    chosen: tuple[Chosen, ...]
    missing: tuple[Missing, ...]
    collisions: tuple[Collision, ...]


@dataclass(frozen=True, slots=True)
class _Picked:
    server: str
    kind: Kind
    name: str
    choice: Choice | None

    @property
    def wanted(self) -> str:
        return (self.choice.new_name if self.choice is not None else None) or self.name


def resolve(members: Sequence[Member], offers: Mapping[str, Iterable[tuple[Kind, str]]]) -> Resolution:
    """Resolve a set.

    Args:
        offers: kind and name of everything that each server offers, by slug; a server that is not there is missing.
    """
    picked: list[_Picked] = []
    missing: list[Missing] = []
    for member in members:
        offered = offers.get(member.server)
        if offered is None:
            missing.append(Missing("server", member.server, None, "There is no such active server."))
        else:
            _pick(member, list(offered), picked, missing)
    chosen, collisions = _name(picked, {member.server for member in members}, missing)
    return Resolution(tuple(chosen), tuple(missing), tuple(collisions))


def _pick(member: Member, offered: Sequence[tuple[Kind, str]], picked: list[_Picked], missing: list[Missing]) -> None:
    choices_of: dict[str, Sequence[Choice] | None] = {
        "tool": member.tools,
        "resource": member.resources,
        "prompt": member.prompts,
    }
    for what, kinds in _KINDS:
        choices = choices_of[what]
        if choices is None:
            picked.extend(_Picked(member.server, kind, name, None) for kind, name in offered if kind in kinds)
            continue
        kind_of: dict[str, Kind] = {name: kind for kind, name in offered if kind in kinds}
        for choice in choices:
            kind = kind_of.get(choice.name)
            if kind is None:
                missing.append(Missing(what, member.server, choice.name, f"The server does not offer this {what}."))
            else:
                picked.append(_Picked(member.server, kind, choice.name, choice))


def _name(picked: Iterable[_Picked], slugs: set[str], missing: list[Missing]) -> tuple[list[Chosen], list[Collision]]:
    chosen: dict[tuple[Kind, str], Chosen] = {}
    collisions: list[Collision] = []
    for item in picked:
        is_uri = item.kind in ("resource", "template")
        exposed = item.wanted
        first = chosen.get((item.kind, exposed))
        if first is not None and not is_uri:
            collisions.append(Collision(item.kind, exposed, first.server, item.server))
        head = _head(exposed, is_uri=is_uri)
        if first is not None or head in slugs:
            exposed = (prefixed_uri if is_uri else prefixed)(item.server, exposed)
        if (item.kind, exposed) in chosen:
            # By the same server: no other has names that begin so.
            what: What = "resource" if item.kind == "template" else item.kind
            missing.append(Missing(what, item.server, item.name, f"Its name {exposed!r} is taken."))
            continue
        chosen[item.kind, exposed] = Chosen(item.server, item.kind, item.name, exposed, item.choice)
    return list(chosen.values()), collisions


def _head(name: str, *, is_uri: bool) -> str | None:
    """What a name begins with that may be a server's slug."""
    if is_uri:
        split = split_uri(name)
        return None if split is None else split[0]
    head, separator, _ = name.partition(SEPARATOR)
    return head if separator else None
