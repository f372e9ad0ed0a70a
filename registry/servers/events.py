"""Events of servers: subscribers are the data path's catalog and, later, realtime and health."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class OffersChanged(Event):
    """What an organisation's clients see may be another than before.

    Other processes hear of it as well, by `registry.servers.changes`.
    """

    org_id: str


@dataclass(frozen=True, slots=True)
class CatalogChanged(OffersChanged):
    """A server was added, changed or removed, or offers something else than before."""

    server_id: str
