"""Shadowing: a server's text that speaks of another server's tools, or a tool that takes another's name.

A description that tells a model how to use somebody else's tool can turn that tool against its owner. Names in
ordinary words (`search`) are no sign of it; `send_email` or `mail__send` is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from registry.pins.flags import look
from registry.servers.names import SEPARATOR, prefixed

OWN_SLUG = "gatehouse"
_WORD = re.compile(r"[\w./-]+")
_DISTINCTIVE = re.compile(r"[_\d-]|[a-z][A-Z]")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The tools of an organisation's other servers.

    Args:
        mentions: the names that a text would use for them, each with its exposed name.
        plain: slugs of the servers that have a tool of that name.
        looks: the plain name by how it looks.
    """

    mentions: dict[str, str]
    plain: dict[str, list[str]]
    looks: dict[str, str]

    def mentioned(self, texts: Iterable[str], own: frozenset[str]) -> list[str]:
        """Exposed names of others' tools that are mentioned, sorted; `own` are the server's own tools."""
        found: set[str] = set()
        for text in texts:
            for word in _WORD.findall(text):
                name = word.strip("./-")
                if name in own:
                    continue
                if name in self.mentions:
                    found.add(self.mentions[name])
                elif name.startswith(OWN_SLUG + SEPARATOR):
                    found.add(name)
        return sorted(found)

    def same_name(self, name: str) -> list[str]:
        """Slugs of other servers that have a tool of this name."""
        return self.plain.get(name, [])

    def lookalike(self, name: str) -> str | None:
        """The other server's tool whose name looks like this one and is another."""
        other = self.looks.get(look(name))
        return other if other is not None and other != name else None


def neighbours_of(tools: Iterable[tuple[str, str]]) -> Neighbours:
    """Args: slug and name of each tool of the other servers."""
    made = Neighbours({}, {}, {})
    for slug, name in tools:
        exposed = prefixed(slug, name)
        made.mentions[exposed] = exposed
        made.plain.setdefault(name, []).append(slug)
        made.looks[look(name)] = name
        if _DISTINCTIVE.search(name):
            made.mentions.setdefault(name, exposed)
    return made
