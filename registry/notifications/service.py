"""Channels: made, changed, tried and removed; and the way of a notice to them, through the outbox.

Whoever has something to tell calls `announce` in the transaction of what happened; each channel of the server then has
a job of its own. Secrets are sealed with the channel's id and never shown again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel
from sqlalchemy import Select, and_, delete, or_, select

from registry.audit.service import AuditService
from registry.core import outbox
from registry.core.clock import Clock
from registry.core.db import Database, Session, as_uuid, new_id
from registry.core.outbox import Job, JobRefused, OutboxJob
from registry.core.security import Sealer
from registry.identity.principal import Principal
from registry.notifications.configs import CONFIGS, ChannelType, read_config, shown
from registry.notifications.errors import AppriseNeedsOperator, ChannelNotFound, StillDelivering
from registry.notifications.models import NotificationChannel
from registry.notifications.notice import Notice
from registry.notifications.senders import Senders
from registry.servers.models import Server
from registry.servers.queries import by_id_or_slug

READ = "mcp:health:read"
MANAGE = "mcp:health:manage"
TOPIC = "notifications.deliver"


class ChannelView(BaseModel):
    """A channel as people see it. Source: `sprintconnect.md`, Notification Channels."""

    id: str
    name: str
    type: str
    enabled: bool
    config: dict[str, Any]
    server_id: str | None
    """`null`: it hears of every server of the organisation."""


def channel_view(channel: NotificationChannel) -> ChannelView:
    return ChannelView(
        id=channel.id,
        name=channel.name,
        type=channel.type,
        enabled=channel.enabled,
        config=shown(_kind(channel), channel.config),
        server_id=channel.server_id,
    )


class NotificationService:
    def __init__(self, clock: Clock, audit: AuditService, sealer: Sealer, senders: Senders) -> None:
        self._clock = clock
        self._audit = audit
        self._sealer = sealer
        self._senders = senders

    async def list(self, session: Session, principal: Principal, server: str | None) -> Sequence[NotificationChannel]:
        """The channels of a server's own, or those of the whole organisation.

        Args:
            server: id or slug; `None` for the organisation's.
        """
        principal.require(READ)
        server_id = None if server is None else (await by_id_or_slug(session, principal, server)).id
        return (await session.scalars(_of(principal, server_id).order_by(NotificationChannel.created_at))).all()

    async def create(
        self,
        session: Session,
        principal: Principal,
        server: str | None,
        *,
        name: str,
        kind: ChannelType,
        config: dict[str, Any],
        enabled: bool = True,
    ) -> tuple[NotificationChannel, dict[str, Any]]:
        """A new channel, with the secrets that were made for it: shown this once.

        Args:
            server: id or slug; `None` for every server of the organisation, those to come too.

        Raises:
            ChannelInvalid: `config` is not what the type needs.
            AppriseNeedsOperator
        """
        principal.require(MANAGE)
        server_id = None if server is None else (await by_id_or_slug(session, principal, server)).id
        if kind == "apprise" and not principal.operates:
            raise AppriseNeedsOperator
        public, secret = read_config(kind, config)
        now, channel_id = self._clock.now(), new_id()
        channel = NotificationChannel(
            id=channel_id,
            org_id=principal.org_id,
            server_id=server_id,
            name=name,
            type=kind,
            enabled=enabled,
            config=public,
            sealed_secrets=self._seal(channel_id, secret),
            created_at=now,
            updated_at=now,
        )
        session.add(channel)
        await self._record(session, principal, "create", channel)
        return channel, {name: value for name, value in secret.items() if name not in config}

    async def update(
        self,
        session: Session,
        principal: Principal,
        channel_id: str,
        *,
        name: str | None = None,
        enabled: bool | None = None,
        config: dict[str, Any] | None = None,
    ) -> NotificationChannel:
        """Change what is given. Of `config`, what is left out stays as it is, secrets too."""
        principal.require(MANAGE)
        channel = await self._find(session, principal, channel_id)
        if channel.type == "apprise" and not principal.operates:
            raise AppriseNeedsOperator
        channel.name = channel.name if name is None else name
        channel.enabled = channel.enabled if enabled is None else enabled
        if config is not None:
            channel.config, secret = read_config(_kind(channel), self._whole(channel) | config)
            channel.sealed_secrets = self._seal(channel.id, secret)
        channel.updated_at = self._clock.now()
        await self._record(session, principal, "update", channel)
        return channel

    async def remove(self, session: Session, principal: Principal, channel_id: str) -> NotificationChannel:
        principal.require(MANAGE)
        channel = await self._find(session, principal, channel_id)
        await self._record(session, principal, "delete", channel)
        await session.delete(channel)
        return channel

    async def test(self, database: Database, principal: Principal, channel_id: str) -> None:
        """Deliver a test notice, now; raises what the delivery did. No transaction is open meanwhile.

        Raises:
            DeliveryFailed, MailNotConfigured, AppriseMissing, JobRefused
        """
        principal.require(MANAGE)
        async with database.reading() as session:
            channel = await self._find(session, principal, channel_id)
            server = await by_id_or_slug(session, principal, channel.server_id) if channel.server_id else None
            kind, config = _kind(channel), self._whole(channel)
        notice = Notice(
            event="test",
            subject_id=new_id(),
            type="test",
            severity="info",
            message=f"This is a test of the notification channel {channel.name!r}.",
            server_id=server.id if server else "",
            server_name=server.name if server else "all servers",
            at=self._clock.now().isoformat(),
        )
        await self._senders.send(kind, config, notice, new_id())

    async def announce(self, session: Session, org_id: str, notice: Notice) -> int:
        """Promise a notice to every enabled channel of its server and of the organisation; gives to how many."""
        concerned = or_(
            NotificationChannel.server_id == notice.server_id,
            and_(NotificationChannel.server_id.is_(None), NotificationChannel.org_id == org_id),
        )
        found = await session.scalars(
            select(NotificationChannel.id).where(concerned, NotificationChannel.enabled.is_(True))
        )
        channels = found.all()
        for channel_id in channels:
            payload = {"channel_id": channel_id, "notice": notice.model_dump()}
            await outbox.put(session, TOPIC, payload, org_id=org_id, now=self._clock.now())
        return len(channels)

    async def deliver(self, database: Database, job: Job) -> None:
        """Carry out a job of `TOPIC`."""
        async with database.reading() as session:
            channel = await session.get(NotificationChannel, job.payload["channel_id"])
            if channel is None:
                raise JobRefused("The notification channel has been removed.")
            if not channel.enabled:
                raise JobRefused("The notification channel is disabled.")
            kind, config = _kind(channel), self._whole(channel)
        await self._senders.send(kind, config, Notice.model_validate(job.payload["notice"]), job.id)

    async def forget(self, session: Session, server: Server) -> None:
        """A removed server's channels go, once they have delivered what there is. See `registry.servers.cleanup`.

        Raises:
            StillDelivering: they have not yet.
        """
        mine = select(NotificationChannel.id).where(NotificationChannel.server_id == server.id)
        waiting = select(OutboxJob.payload).where(OutboxJob.topic == TOPIC, OutboxJob.status == "waiting")
        channels = set((await session.scalars(mine)).all())
        payloads = await session.scalars(waiting.where(OutboxJob.org_id == server.org_id)) if channels else ()
        if any(payload["channel_id"] in channels for payload in payloads):
            raise StillDelivering("The server's channels have notices to deliver yet.")
        await session.execute(delete(NotificationChannel).where(NotificationChannel.server_id == server.id))

    async def _find(self, session: Session, principal: Principal, channel_id: str) -> NotificationChannel:
        mine = select(NotificationChannel).where(NotificationChannel.org_id == principal.org_id)
        found = await session.scalar(mine.where(NotificationChannel.id == as_uuid(channel_id)))
        if found is None:
            raise ChannelNotFound
        return found

    async def _record(self, session: Session, principal: Principal, verb: str, channel: NotificationChannel) -> None:
        detail = {"server_id": channel.server_id, "name": channel.name, "type": channel.type}
        await self._audit.record(
            session, principal, f"notifications.{verb}", target=("notification_channel", channel.id), detail=detail
        )

    def _seal(self, channel_id: str, secret: dict[str, Any]) -> str | None:
        return self._sealer.seal(msgspec.json.encode(secret), channel_id) if secret else None

    def _whole(self, channel: NotificationChannel) -> dict[str, Any]:
        if channel.sealed_secrets is None:
            return dict(channel.config)
        opened = self._sealer.open(channel.sealed_secrets, channel.id)
        return channel.config | msgspec.json.decode(opened, type=dict[str, Any])


def _of(principal: Principal, server_id: str | None) -> Select[NotificationChannel]:
    return select(NotificationChannel).where(
        NotificationChannel.org_id == principal.org_id, NotificationChannel.server_id == server_id
    )


def _kind(channel: NotificationChannel) -> ChannelType:
    return next(kind for kind in CONFIGS if kind == channel.type)
