"""Keeps the catalog up to date: reloads what changed in the registry, and tells the clients it concerns.

Where offers come from is the registry's affair (`OfferSource`); changes are announced through `changed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from gateway.mcp.catalog import Catalog
    from gateway.mcp.notices import Notices
    from gateway.mcp.upstream.manager import Upstreams
    from gateway.mcp.watch import Watches
    from registry.access.rule import AccessBook
    from registry.servers.connection import ServerOffer
    from registry.sets.members import SetOffer

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


class OfferSource(Protocol):
    async def load(
        self, org_id: str | None
    ) -> tuple[Sequence[ServerOffer], Sequence[SetOffer], Mapping[str, AccessBook]]:
        """The stored offers, sets and access rules of one organisation, or of all."""
        ...


class CatalogRefresh:
    """Reloads organisations that were announced as changed, one after the other, each once per burst of changes."""

    def __init__(
        self, source: OfferSource, catalog: Catalog, upstreams: Upstreams, notices: Notices, watches: Watches
    ) -> None:
        self._watches = watches
        self._source = source
        self._catalog = catalog
        self._upstreams = upstreams
        self._notices = notices
        self._changed: set[str] = set()
        self._reloading = False
        self._wake = asyncio.Event()
        self._reloaded: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load everything, then follow changes."""
        offers: dict[str, list[ServerOffer]] = {}
        sets: dict[str, list[SetOffer]] = {}
        all_offers, all_sets, books = await self._source.load(None)
        for offer in all_offers:
            offers.setdefault(offer.connection.org_id, []).append(offer)
        for made in all_sets:
            sets.setdefault(made.org_id, []).append(made)
        for org_id in {*offers, *sets}:
            self._catalog.replace(org_id, offers.get(org_id, ()), sets.get(org_id, ()), books.get(org_id))
        self._watches.follow()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def changed(self, org_id: str) -> None:
        self._changed.add(org_id)
        self._wake.set()

    async def settled(self) -> None:
        """Return when every change announced so far is in the catalog."""
        if self._changed or self._reloading:
            future = asyncio.get_running_loop().create_future()
            self._reloaded.append(future)
            self._wake.set()
            await future

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._reloaded = self._reloaded, []
            changed, self._changed = self._changed, set()
            self._reloading = True
            for org_id in changed:
                try:
                    loaded, made, books = await self._source.load(org_id)
                    self._catalog.replace(org_id, loaded, made, books.get(org_id))
                except Exception:
                    # The snapshot stays as it was, which is better than none; the change is not forgotten.
                    log.exception("the catalog could not be reloaded, trying again", org_id=org_id)
                    self._changed.add(org_id)
                    self._wake.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._notices.lists_changed(org_id)
            self._upstreams.keep_only(set(self._catalog.connections()))
            self._watches.follow()
            self._reloading = False
            for future in waiting:
                if not future.done():
                    future.set_result(None)
