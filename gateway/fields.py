"""Header fields of a request, with what was worked out of those of the request before, where its head was the same.

A connection mostly sends one head again and again (`gateway.known_head`), and what it says of the caller, the protocol
and the host is then the same as well. `gateway.edge` hands the fields on; others work something out of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

V = TypeVar("V")
H = TypeVar("H")

_NOTHING = object()


class Fields(list[tuple[bytes, bytes]]):
    """Fields of a request whose head is known.

    Attributes:
        made: what was worked out, by what did it; shared by all requests with this head.
    """

    __slots__ = ("made",)
    made: dict[Callable[[Any], Any], Any]


def once_per_head(work: Callable[[H], V]) -> Callable[[H], V]:
    """Do `work` on header fields once for all requests that have the same head.

    Args:
        work: looks at no length, the one field in which known heads differ, and gives what nobody changes. What it
            raises is not kept.
    """

    def remembering(fields: H) -> V:
        if type(fields) is not Fields:
            return work(fields)
        value: Any = fields.made.get(work, _NOTHING)
        if value is _NOTHING:
            value = fields.made[work] = work(fields)
        return value

    return remembering
