"""Names of workspaces, and of what belongs to them elsewhere."""

from __future__ import annotations

import re

RESERVED = frozenset({"gatehouse", "health"})
MAX_SLUG = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_SERVER_ID = re.compile(r"workspace:([0-9]{1,10})", re.ASCII)


def acceptable(name: str) -> bool:
    """Whether a workspace may have this name; it becomes a part of an address. Source: `octoprox.md`."""
    return bool(_NAME.fullmatch(name)) and name.strip(".") != "" and name.lower() not in RESERVED


def slug_of(name: str, taken: set[str]) -> str:
    """A prefix for the workspace's tools that nothing else of the organisation has: its name, where it can be."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    stem = (words if words[:1].isalpha() else f"w-{words}")[:MAX_SLUG].strip("-")
    if stem not in taken:
        return stem
    short = stem[: MAX_SLUG - 7].rstrip("-")
    return next(slug for number in range(2, 1_000_000) if (slug := f"{short}-{number}") not in taken)


def server_id_of(workspace_id: int) -> str:
    """The workspace's id among the servers of the data path, budgets and records of calls."""
    return f"workspace:{workspace_id}"


def workspace_id_of(server_id: str) -> int | None:
    """The workspace behind a server's id, if it is one."""
    found = _SERVER_ID.fullmatch(server_id)
    return int(found[1]) if found else None
