"""Health in the Registry API: of the gateway, and of servers, with alerts and notification channels.

Source: `sprintconnect.md`, Health Monitoring; resolving alerts, and changing and trying channels, is ours.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session, public
from registry.health.history import Granularity
from registry.health.monitoring import MonitoringService
from registry.health.service import HealthService, SystemHealth
from registry.health.views import AlertDraft, AlertsView, AlertView, HealthMetrics, ServerHealthConfig, alert_view
from registry.notifications.configs import ChannelType
from registry.notifications.service import ChannelView, NotificationService, channel_view
from registry.servers.circuit import Circuits
from registry.servers.health_config import Check, MaintenanceWindow
from registry.servers.views import ServerHealth

HEALTH = Limit("health", 1000, 60, "user")


class ThresholdsBody(BaseModel):
    """Thresholds that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    response_time_ms: float | None = Field(None, gt=0, le=3_600_000)
    uptime_percentage: float | None = Field(None, ge=0, le=100)


class ConfigBody(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool | None = None
    check_interval_seconds: int | None = Field(None, ge=1, le=86_400)
    timeout_seconds: int | None = Field(None, ge=1, le=300)
    retry_count: int | None = Field(None, ge=0, le=10)
    alert_thresholds: ThresholdsBody | None = None
    checks: list[Check] | None = Field(None, max_length=3)
    maintenance_windows: list[MaintenanceWindow] | None = Field(None, max_length=100)


class ChannelBody(BaseModel):
    name: str = Field(min_length=1, max_length=255)
    type: ChannelType
    enabled: bool = True
    config: dict[str, Any]


class ChannelChanges(BaseModel):
    """What is left out stays as it is, secrets of the configuration too."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=255)
    enabled: bool | None = None
    config: dict[str, Any] | None = None


class ChannelsAnswer(BaseModel):
    channels: list[ChannelView]


class NewChannelAnswer(ChannelView):
    """Args: secrets: that were made for the channel; shown this once."""

    secrets: dict[str, Any]


class TestedAnswer(BaseModel):
    delivered: bool = True


def system_router(front: Front, health: HealthService) -> APIRouter:
    """Health of the gateway, for people and for probes; open, and without a transaction of its own."""
    api = front.router(tags=["Health"])

    @api.get("/health")
    @public
    async def get_health() -> SystemHealth:
        return await health.check()

    return api


def router(front: Front, monitoring: MonitoringService, circuits: Circuits) -> APIRouter:
    api = front.router(tags=["Health"], limit=HEALTH)

    @api.get("/v1/mcp/servers/{server_id}/health")
    async def get_server_health(server_id: str, session: Session, caller: Caller) -> ServerHealth:
        found = await monitoring.health(session, caller, server_id)
        return found.model_copy(update={"circuit": circuits.circuit(found.server_id)})

    @api.get("/v1/mcp/servers/{server_id}/health/config")
    async def get_health_config(server_id: str, session: Session, caller: Caller) -> ServerHealthConfig:
        return await monitoring.config(session, caller, server_id)

    @api.put("/v1/mcp/servers/{server_id}/health/config")
    async def update_health_config(
        server_id: str, body: ConfigBody, session: Session, caller: Caller
    ) -> ServerHealthConfig:
        changes = body.model_dump(mode="json", exclude_none=True)
        return await monitoring.configure(session, caller, server_id, changes)

    @api.get("/v1/mcp/servers/{server_id}/health/metrics")
    async def get_health_metrics(
        server_id: str,
        session: Session,
        caller: Caller,
        start_time: AwareDatetime | None = None,
        end_time: AwareDatetime | None = None,
        granularity: Granularity | None = None,
    ) -> HealthMetrics:
        return await monitoring.metrics(
            session, caller, server_id, start=start_time, end=end_time, granularity=granularity
        )

    @api.get("/v1/mcp/servers/{server_id}/health/alerts")
    async def list_health_alerts(
        server_id: str,
        session: Session,
        caller: Caller,
        open_only: bool = False,
        limit: PageLimit = 100,
        offset: PageOffset = 0,
    ) -> AlertsView:
        return await monitoring.alerts(session, caller, server_id, open_only=open_only, limit=limit, offset=offset)

    @api.post("/v1/mcp/servers/{server_id}/health/alerts", status_code=201)
    async def create_health_alert(server_id: str, body: AlertDraft, session: Session, caller: Caller) -> AlertView:
        return alert_view(await monitoring.raise_alert(session, caller, server_id, body))

    @api.post("/v1/mcp/servers/{server_id}/health/alerts/{alert_id}/resolve")
    async def resolve_health_alert(server_id: str, alert_id: str, session: Session, caller: Caller) -> AlertView:
        return alert_view(await monitoring.resolve_alert(session, caller, server_id, alert_id))

    return api


def channels_router(front: Front, notifications: NotificationService) -> APIRouter:
    api = front.router(tags=["Notifications"], limit=HEALTH)

    @api.get("/v1/mcp/servers/{server_id}/health/notifications")
    async def list_channels(server_id: str, session: Session, caller: Caller) -> ChannelsAnswer:
        found = await notifications.list(session, caller, server_id)
        return ChannelsAnswer(channels=[channel_view(channel) for channel in found])

    @api.post("/v1/mcp/servers/{server_id}/health/notifications", status_code=201)
    async def create_channel(server_id: str, body: ChannelBody, session: Session, caller: Caller) -> NewChannelAnswer:
        made, secrets = await notifications.create(
            session, caller, server_id, name=body.name, kind=body.type, config=body.config, enabled=body.enabled
        )
        return NewChannelAnswer(**channel_view(made).model_dump(), secrets=secrets)

    @api.get("/v1/notifications/channels")
    async def list_organization_channels(session: Session, caller: Caller) -> ChannelsAnswer:
        """Those that hear of every server of the organisation."""
        found = await notifications.list(session, caller, None)
        return ChannelsAnswer(channels=[channel_view(channel) for channel in found])

    @api.post("/v1/notifications/channels", status_code=201)
    async def create_organization_channel(body: ChannelBody, session: Session, caller: Caller) -> NewChannelAnswer:
        made, secrets = await notifications.create(
            session, caller, None, name=body.name, kind=body.type, config=body.config, enabled=body.enabled
        )
        return NewChannelAnswer(**channel_view(made).model_dump(), secrets=secrets)

    @api.put("/v1/notifications/channels/{channel_id}")
    async def update_channel(channel_id: str, body: ChannelChanges, session: Session, caller: Caller) -> ChannelView:
        return channel_view(await notifications.update(session, caller, channel_id, **body.model_dump()))

    @api.delete("/v1/notifications/channels/{channel_id}", status_code=204)
    async def remove_channel(channel_id: str, session: Session, caller: Caller) -> None:
        await notifications.remove(session, caller, channel_id)

    @api.post("/v1/notifications/channels/{channel_id}/test")
    async def test_channel(channel_id: str, caller: Caller) -> TestedAnswer:
        """Deliver a test notice now. 502 says why it did not get through."""
        await notifications.test(front.database, caller, channel_id)
        return TestedAnswer()

    return api
