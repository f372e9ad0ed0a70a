"""Prices of single tools, where they differ from their server's. The data path reads them with the catalog."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Numeric, Text, Uuid, exists, select
from sqlalchemy.orm import Mapped, mapped_column

from registry.audit.service import AuditService
from registry.core.db import Base, Session, emit
from registry.core.errors import NotFound
from registry.identity.principal import Principal
from registry.servers import queries
from registry.servers.errors import ServerInvalid, ServerNotFound
from registry.servers.events import CatalogChanged
from registry.servers.models import Capability, Server

MOST_USD = 1_000_000.0


class ToolPrice(Base):
    """Dollars for one call of a tool, by the server's own name for it. It stays while the server lists others."""

    __tablename__ = "tool_prices"

    server_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True
    )
    tool: Mapped[str] = mapped_column(Text, primary_key=True)
    price_usd: Mapped[float] = mapped_column(Numeric(18, 9, asdecimal=False))


class ToolNotFound(NotFound):
    def __init__(self, tool: str) -> None:
        super().__init__(f"The server does not offer a tool {tool!r}.")


class PriceService:
    def __init__(self, audit: AuditService) -> None:
        self._audit = audit

    async def set_price(
        self, session: Session, principal: Principal, server: str, tool: str, price_usd: float | None
    ) -> Server:
        """Set what a call of one tool costs; `None` gives it its server's price again.

        Args:
            server: id or slug.

        Raises:
            ServerNotFound, ToolNotFound, ServerInvalid: the last for a price below 0 or above `MOST_USD`.
        """
        principal.require("mcp:servers:update")
        if price_usd is not None and not 0 <= price_usd <= MOST_USD:
            raise ServerInvalid(f"A price is between 0 and {MOST_USD:.0f} dollars.", field="price_usd")
        found = await queries.find_by_slug(session, principal, server) or await queries.find(session, principal, server)
        if found is None:
            raise ServerNotFound
        price = await session.get(ToolPrice, (found.id, tool))
        if price is None:
            listed = exists().where(
                Capability.server_id == found.id, Capability.kind == "tool", Capability.name == tool
            )
            if not await session.scalar(select(listed)):
                raise ToolNotFound(tool)
        if price is not None and price_usd is None:
            await session.delete(price)
        elif price is not None and price_usd is not None:
            price.price_usd = price_usd
        elif price_usd is not None:
            session.add(ToolPrice(server_id=found.id, tool=tool, price_usd=price_usd))
        emit(session, CatalogChanged(found.org_id, found.id))
        detail = {"tool": tool, "price_usd": price_usd}
        await self._audit.record(session, principal, "servers.price", target=("server", found.id), detail=detail)
        return found


async def prices_of(session: Session, org_id: str | None) -> dict[str, dict[str, float]]:
    """By server id, then by tool; of one organisation or of all."""
    rows = select(ToolPrice).join(Server, Server.id == ToolPrice.server_id)
    if org_id is not None:
        rows = rows.where(Server.org_id == org_id)
    found: dict[str, dict[str, float]] = {}
    for row in (await session.scalars(rows)).all():
        found.setdefault(row.server_id, {})[row.tool] = row.price_usd
    return found
