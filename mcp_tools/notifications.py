"""Tools for notification channels: `channels_list`, `channels_create`, `channels_update`, `…_remove`, `…_test`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.notifications.configs import ChannelType
from registry.notifications.service import MANAGE, READ, ChannelView, NotificationService, channel_view


class ListChannels(Arguments):
    server: str | None = Field(
        None, description="Id or slug of the server; when left out, it is about every server of the organisation."
    )


class CreateChannel(ListChannels):
    name: str = Field(min_length=1, max_length=255)
    type: ChannelType
    config: dict[str, Any] = Field(
        description="email: recipients. slack: webhook_url, channel. webhook: url, secret, headers. pagerduty: "
        "routing_key. apprise: urls."
    )
    enabled: bool = True


class OneChannel(Arguments):
    id: str = Field(description="Of the channel.")


class UpdateChannel(OneChannel):
    name: str | None = Field(None, min_length=1, max_length=255)
    enabled: bool | None = None
    config: dict[str, Any] | None = None


class Channels(BaseModel):
    channels: list[ChannelView]


class CreatedChannel(ChannelView):
    secrets: dict[str, Any]
    """That were made for the channel; shown this once."""


class RemovedChannel(BaseModel):
    id: str
    removed: bool = True


class TestedChannel(BaseModel):
    id: str
    delivered: bool = True


class NotificationTools:
    def __init__(self, database: Database, notifications: NotificationService) -> None:
        self._database = database
        self._notifications = notifications

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "channels_list",
                "List notification channels",
                "List where people hear of the alerts of a server, or of all servers.",
                READ,
                ListChannels,
                self._list,
                read_only=True,
            ),
            Tool(
                "channels_create",
                "Add a notification channel",
                "Have the alerts of a server, or of all, sent by mail, Slack, a signed webhook, PagerDuty or apprise.",
                MANAGE,
                CreateChannel,
                self._create,
            ),
            Tool(
                "channels_update",
                "Change a notification channel",
                "Change a notification channel. What is left out stays as it is, secrets too.",
                MANAGE,
                UpdateChannel,
                self._update,
                idempotent=True,
            ),
            Tool(
                "channels_remove",
                "Remove a notification channel",
                "Remove a notification channel. What waits for it is not delivered any more.",
                MANAGE,
                OneChannel,
                self._remove,
                destructive=True,
            ),
            Tool(
                "channels_test",
                "Try a notification channel",
                "Deliver a test notice to a channel now, and tell whether it got through.",
                MANAGE,
                OneChannel,
                self._test,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListChannels) -> Channels:
        async with self._database.reading() as session:
            found = await self._notifications.list(session, principal, wanted.server)
            return Channels(channels=[channel_view(channel) for channel in found])

    async def _create(self, principal: Principal, wanted: CreateChannel) -> CreatedChannel:
        async with self._database.transaction() as session:
            made, secrets = await self._notifications.create(
                session,
                principal,
                wanted.server,
                name=wanted.name,
                kind=wanted.type,
                config=wanted.config,
                enabled=wanted.enabled,
            )
            return CreatedChannel(**channel_view(made).model_dump(), secrets=secrets)

    async def _update(self, principal: Principal, wanted: UpdateChannel) -> ChannelView:
        changes = wanted.model_dump(exclude={"id"})
        async with self._database.transaction() as session:
            return channel_view(await self._notifications.update(session, principal, wanted.id, **changes))

    async def _remove(self, principal: Principal, wanted: OneChannel) -> RemovedChannel:
        async with self._database.transaction() as session:
            return RemovedChannel(id=(await self._notifications.remove(session, principal, wanted.id)).id)

    async def _test(self, principal: Principal, wanted: OneChannel) -> TestedChannel:
        await self._notifications.test(self._database, principal, wanted.id)
        return TestedChannel(id=wanted.id)
