"""URI templates (RFC 6570), as far as telling apart needs it whose resource a URI is.

Servers choose templates and callers choose URIs, so matching is linear in both: a regular expression of several
wildcards is not, and would let a caller hold up everybody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_URI = 8192
"""Longer URIs match no template."""

_EXPRESSION = re.compile(r"\{([+#./;?&]?)[^{}]*\}")
_PART_END = re.compile(r"[/?#]")


@dataclass(frozen=True, slots=True)
class _Gap:
    """What an expression may stand for: at least so many characters, to the next part of the URI or beyond it."""

    least: int
    within_part: bool


_ANYTHING = _Gap(1, within_part=False)
_STRICT = {"": _Gap(1, within_part=True), "+": _ANYTHING, "#": _ANYTHING}
_MAY_BE_EMPTY = _Gap(0, within_part=False)


class UriTemplate:
    """A template.

    Args:
        strict: a simple expression ends at the next part of the URI, as RFC 6570 makes it; otherwise every expression
            matches any text but none.
    """

    __slots__ = ("_parts",)

    def __init__(self, template: str, *, strict: bool = False) -> None:
        self._parts: list[str | _Gap] = []
        end = 0
        for found in _EXPRESSION.finditer(template):
            gap = _STRICT.get(found[1], _MAY_BE_EMPTY) if strict else _ANYTHING
            self._parts += [template[end : found.start()], gap]
            end = found.end()
        self._parts.append(template[end:])

    def matches(self, uri: str) -> bool:
        if len(uri) > MAX_URI:
            return False
        places = [0]
        for part in self._parts:
            if isinstance(part, str):
                places = [place + len(part) for place in places if uri.startswith(part, place)]
            else:
                places = _beyond(part, uri, places)
            if not places:
                return False
        return places[-1] == len(uri)


def _beyond(gap: _Gap, uri: str, places: list[int]) -> list[int]:
    """Where a gap that begins at one of these places, given in order, may end."""
    found: list[int] = []
    end = reached = -1
    for place in places:
        if place > end:
            stop = _PART_END.search(uri, place) if gap.within_part else None
            end = stop.start() if stop is not None else len(uri)
        found += range(max(place + gap.least, reached + 1), end + 1)
        reached = max(reached, end)
    return found
