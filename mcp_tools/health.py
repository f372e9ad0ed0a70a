"""Tools for health: of the gateway and its servers, how servers are watched, their history, and alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.health.history import Granularity
from registry.health.monitoring import MANAGE, READ, MonitoringService
from registry.health.service import HealthService, SystemHealth
from registry.health.views import AlertDraft, AlertsView, AlertView, HealthMetrics, ServerHealthConfig, alert_view
from registry.identity.principal import Principal
from registry.servers.circuit import Circuits
from registry.servers.health_config import Check, MaintenanceWindow
from registry.servers.service import ServerService
from registry.servers.views import ServerHealth

MOST_SERVERS = 1000


class GetHealth(Arguments):
    pass


class OneServer(Arguments):
    server: str = Field(description="Id or slug of the server.")


class ConfigureHealth(OneServer):
    enabled: bool | None = None
    check_interval_seconds: int | None = Field(None, ge=1, le=86_400)
    timeout_seconds: int | None = Field(None, ge=1, le=300, description="For one attempt.")
    retry_count: int | None = Field(None, ge=0, le=10, description="Further attempts before a check has failed.")
    checks: list[Check] | None = None
    response_time_ms: float | None = Field(None, gt=0, description="Slower checks raise an alert.")
    uptime_percentage: float | None = Field(None, ge=0, le=100, description="A lower uptime raises an alert.")
    maintenance_windows: list[MaintenanceWindow] | None = Field(None, description="No alerts are raised in these.")


class GetMetrics(OneServer):
    start_time: AwareDatetime | None = Field(None, description="A day ago when left out.")
    end_time: AwareDatetime | None = None
    granularity: Granularity | None = Field(None, description="Each single check when left out.")


class ListAlerts(OneServer):
    open_only: bool = True
    limit: int = Field(100, ge=1, le=1000)


class RaiseAlert(AlertDraft, OneServer):
    pass


class ResolveAlert(OneServer):
    id: str = Field(description="Of the alert.")


class Health(BaseModel):
    gateway: SystemHealth
    servers: dict[str, str]
    """Health status by slug."""


class HealthTools:
    def __init__(
        self,
        database: Database,
        servers: ServerService,
        health: HealthService,
        monitoring: MonitoringService,
        circuits: Circuits,
    ) -> None:
        self._database = database
        self._servers = servers
        self._health = health
        self._monitoring = monitoring
        self._circuits = circuits

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "health_get",
                "Health of the gateway",
                "Tell whether the gateway and the MCP servers registered with it are healthy.",
                READ,
                GetHealth,
                self._get,
                read_only=True,
            ),
            Tool(
                "health_server",
                "Health of a server",
                "Tell the health of one registered MCP server: its checks, uptime, response time, last error.",
                READ,
                OneServer,
                self._get_server,
                read_only=True,
            ),
            Tool(
                "health_metrics",
                "History of a server's health",
                "Tell the checks of a server over time, with uptime and response times.",
                READ,
                GetMetrics,
                self._metrics,
                read_only=True,
            ),
            Tool(
                "health_config",
                "Show how a server is watched",
                "Show how often and how a server is checked, and when alerts are raised.",
                READ,
                OneServer,
                self._config,
                read_only=True,
            ),
            Tool(
                "health_configure",
                "Configure health checks",
                "Say how often and how a server is checked, when alerts are raised, and when not. What is left out "
                "stays as it is.",
                MANAGE,
                ConfigureHealth,
                self._configure,
                idempotent=True,
            ),
            *self._alert_tools(),
        ]

    def _alert_tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "alerts_list",
                "List alerts",
                "List the health alerts of a server, those that are open or all.",
                READ,
                ListAlerts,
                self._alerts,
                read_only=True,
            ),
            Tool(
                "alerts_create",
                "Raise an alert",
                "Raise a health alert about a server; its notification channels are told.",
                MANAGE,
                RaiseAlert,
                self._raise,
            ),
            Tool(
                "alerts_resolve",
                "Resolve an alert",
                "Close a health alert. It comes again if its reason is still there.",
                MANAGE,
                ResolveAlert,
                self._resolve,
            ),
        ]

    async def _get(self, principal: Principal, _wanted: GetHealth) -> Health:
        system = await self._health.check()
        async with self._database.reading() as session:
            rows, _ = await self._servers.list(session, principal, limit=MOST_SERVERS)
            return Health(gateway=system, servers={row.slug: row.health_status for row in rows})

    async def _get_server(self, principal: Principal, wanted: OneServer) -> ServerHealth:
        async with self._database.reading() as session:
            found = await self._monitoring.health(session, principal, wanted.server)
        return found.model_copy(update={"circuit": self._circuits.circuit(found.server_id)})

    async def _metrics(self, principal: Principal, wanted: GetMetrics) -> HealthMetrics:
        start: datetime | None = wanted.start_time
        async with self._database.reading() as session:
            return await self._monitoring.metrics(
                session,
                principal,
                wanted.server,
                start=start,
                end=wanted.end_time,
                granularity=wanted.granularity,
            )

    async def _config(self, principal: Principal, wanted: OneServer) -> ServerHealthConfig:
        async with self._database.reading() as session:
            return await self._monitoring.config(session, principal, wanted.server)

    async def _configure(self, principal: Principal, wanted: ConfigureHealth) -> ServerHealthConfig:
        changes = wanted.model_dump(mode="json", exclude_none=True, exclude={"server"})
        thresholds = {name: changes.pop(name) for name in ("response_time_ms", "uptime_percentage") if name in changes}
        async with self._database.transaction() as session:
            return await self._monitoring.configure(
                session, principal, wanted.server, changes | {"alert_thresholds": thresholds}
            )

    async def _alerts(self, principal: Principal, wanted: ListAlerts) -> AlertsView:
        async with self._database.reading() as session:
            return await self._monitoring.alerts(
                session, principal, wanted.server, open_only=wanted.open_only, limit=wanted.limit
            )

    async def _raise(self, principal: Principal, wanted: RaiseAlert) -> AlertView:
        async with self._database.transaction() as session:
            return alert_view(await self._monitoring.raise_alert(session, principal, wanted.server, wanted))

    async def _resolve(self, principal: Principal, wanted: ResolveAlert) -> AlertView:
        async with self._database.transaction() as session:
            return alert_view(await self._monitoring.resolve_alert(session, principal, wanted.server, wanted.id))
