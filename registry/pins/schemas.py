"""Bounds of the schemas that servers give: what is beyond them is not offered.

Nothing here, and nothing in the gateway, resolves a `$ref`: a schema is text that is passed on. One that points to the
network is told, for a client might follow it.
"""

from __future__ import annotations

from typing import Any, cast

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_SUBSCHEMAS = 5_000
"""Objects in a schema: each subschema is one, and so is each map of them."""

SCHEMAS = ("inputSchema", "outputSchema")


def beyond_bounds(size: int, definition: dict[str, Any]) -> str | None:
    """What bound a definition of so many bytes exceeds; `None` if none."""
    if size > MAX_BYTES:
        return f"it has {size} bytes, more than {MAX_BYTES}"
    for name in SCHEMAS:
        waiting: list[tuple[Any, int]] = [(definition.get(name), 1)]
        objects = 0
        while waiting:
            value, depth = waiting.pop()
            inner = _inner(value)
            if inner is None:
                continue
            objects += isinstance(value, dict)
            if depth > MAX_DEPTH:
                return f"its {name} is nested more than {MAX_DEPTH} deep"
            if objects > MAX_SUBSCHEMAS:
                return f"its {name} has more than {MAX_SUBSCHEMAS} subschemas"
            waiting.extend((part, depth + 1) for part in inner)
    return None


def network_references(definition: dict[str, Any]) -> list[str]:
    """Addresses outside themselves that schemas refer to, sorted."""
    found: set[str] = set()
    waiting: list[Any] = [definition.get(name) for name in SCHEMAS]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name, part in cast("dict[str, Any]", value).items():
                if name in ("$ref", "$dynamicRef") and isinstance(part, str) and not part.startswith("#"):
                    found.add(part)
                waiting.append(part)
        elif isinstance(value, list):
            waiting.extend(cast("list[Any]", value))
    return sorted(found)


def _inner(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).values())
    return cast("list[Any]", value) if isinstance(value, list) else None
