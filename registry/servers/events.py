"""Events of servers: subscribers are the data path's catalog and, later, realtime and health."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class CatalogChanged(Event):
    """A server was added, changed or removed, or offers something else than before."""

    org_id: str
    server_id: str
