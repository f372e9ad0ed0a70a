"""Wires everything together, and serves it. The only place where the parts meet.

`Application` is the front door as one ASGI callable: MCP addresses go straight to the MCP endpoint, everything else
to the REST façade. `serve` runs it on uvicorn.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
import uvloop

from gateway.api.agents import emergency as emergency_api
from gateway.api.application import behind_edge, create_api
from gateway.api.registry import api_keys as api_keys_api
from gateway.api.registry import audit as audit_api
from gateway.api.registry import auth as auth_api
from gateway.api.registry import health as health_api
from gateway.api.registry import organizations as organizations_api
from gateway.api.registry import servers as servers_api
from gateway.api.registry import tools as tools_api
from gateway.api.registry import usage as usage_api
from gateway.api.shared import probes
from gateway.api.shared.client import ClientAddress
from gateway.api.shared.hosts import HostPolicy
from gateway.api.shared.rate_limits import MemoryRateLimiter
from gateway.api.shared.route import Front
from gateway.auth.authenticator import Authenticator
from gateway.mcp.call import CallKeeping
from gateway.mcp.caller import ToolCaller
from gateway.mcp.catalog import Catalog
from gateway.mcp.endpoint import McpEndpoint, Receive, Scope, Send
from gateway.mcp.flights import Flights
from gateway.mcp.handler import Handler, address_of
from gateway.mcp.notices import Notices
from gateway.mcp.own import own_server
from gateway.mcp.policies.permission import PermissionPolicy
from gateway.mcp.policies.stop import StopPolicy
from gateway.mcp.records import Recorder
from gateway.mcp.refresh import CatalogRefresh
from gateway.mcp.request_state import RequestStates
from gateway.mcp.router import Router
from gateway.mcp.sessions import LegacySessions
from gateway.mcp.upstream.local import SLUG, LocalUpstream
from gateway.mcp.upstream.manager import Upstreams
from gateway.mcp.upstream.probe import Prober
from gateway.mcp.visits import Visits
from mcp_tools.audit import AuditTools
from mcp_tools.emergency import EmergencyTools
from mcp_tools.health import HealthTools
from mcp_tools.servers import ServerTools
from mcp_tools.tool import Tool, Toolbox
from mcp_tools.usage import UsageTools
from registry.audit.log import AuditLog, Changes
from registry.audit.service import AuditService
from registry.audit.verify import CHANGES_TABLE, AuditVerifier
from registry.core.clock import SystemClock
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy, parse_allow
from registry.core.errors import GatehouseError
from registry.core.events import EventBus
from registry.core.idempotency import IdempotencyStore
from registry.core.logs import configure_logs
from registry.core.security import Sealer, derive_key, load_master_key
from registry.core.version import VERSION
from registry.emergency.service import EmergencyService
from registry.emergency.switch import EmergencySwitch
from registry.health.service import HealthService
from registry.identity.first_run import FirstRun, Preset, ensure_first_run, operator_token
from registry.identity.service import IdentityService
from registry.migrations.runner import migrate
from registry.servers.discovery import Discovery
from registry.servers.events import CatalogChanged
from registry.servers.service import ServerService
from registry.usage.log import Calls
from registry.usage.service import CALLS_TABLE, UsageService

if TYPE_CHECKING:
    from fastapi import APIRouter

    from registry.core.settings import Settings
    from registry.servers.connection import ServerOffer

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10
BACKLOG = 4096


def local_mode(settings: Settings, host: str) -> bool:
    """Listening on loopback only, with no sign of a proxy in front: private upstreams are allowed (DESIGN §3)."""
    if settings.public_url or settings.trusted_proxies:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named(host: str) -> str:
    """A name that clients on this machine can use for the listening host."""
    everywhere = host in ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
    name = "127.0.0.1" if everywhere else host
    return f"[{name}]" if ":" in name else name


class _StoredOffers:
    """The registry as the catalog's source."""

    def __init__(self, database: Database, servers: ServerService) -> None:
        self._database = database
        self._servers = servers

    async def load(self, org_id: str | None) -> Sequence[ServerOffer]:
        async with self._database.reading() as session:
            return await self._servers.catalog(session, org_id)


class Application:
    """The whole gateway in one process.

    Args:
        host, port: where it listens, for its own address and the allowed values of `Host`.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._settings = settings
        self.url = settings.public_url or f"http://{_named(host)}:{port}"
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._master = load_master_key(
            settings.secret_key.get_secret_value() if settings.secret_key else None, settings.data_dir
        )
        self._clock = clock = SystemClock()
        events = EventBus()
        self.database = database = Database(settings.resolved_database_url, events)
        audit_key = derive_key(self._master, "audit")
        audit = AuditService(clock, audit_key)
        identity = IdentityService(clock, audit, self._master, access_token_minutes=settings.access_token_minutes)
        self._authenticator = Authenticator(database, identity, events, clock)
        servers = ServerService(
            clock, Sealer(self._master, "servers"), audit, stdio_without_proof=settings.stdio_api == "on"
        )
        allow = parse_allow(settings.egress_allow or ())
        self._egress = Egress(EgressPolicy(allow=allow, local_mode=local_mode(settings, host)))
        usage = UsageService(database, clock, audit_key)
        audit_log = AuditLog(database, [Changes(), Calls()])
        tables = (CHANGES_TABLE, CALLS_TABLE)
        verifier = AuditVerifier(database, clock, audit_key, tables, own=[usage.chain])
        health = HealthService(database, clock)
        emergency = EmergencyService(clock, audit)
        self._switch = EmergencySwitch(database, events, clock)
        self._ready = False
        self._addresses = ClientAddress(settings.trusted_proxies)
        own_tools = [
            *EmergencyTools(database, emergency).tools(),
            *UsageTools(database, usage).tools(),
            *AuditTools(database, audit_log, verifier).tools(),
        ]
        self._wire_data_path(settings, host, events, servers, usage, health, own_tools)

        def records(front: Front) -> list[APIRouter]:
            return [
                emergency_api.router(front, emergency),
                usage_api.router(front, usage),
                audit_api.router(front, audit_log),
                audit_api.whole_router(front, audit_log, verifier),
            ]

        self._wire_api(settings, host, identity, servers, health, records)

    def _wire_api(
        self,
        settings: Settings,
        host: str,
        identity: IdentityService,
        servers: ServerService,
        health: HealthService,
        further: Callable[[Front], list[APIRouter]],
    ) -> None:
        front = Front(
            self.database,
            self._authenticator,
            IdempotencyStore(self._clock, self._master),
            self._addresses,
            MemoryRateLimiter() if settings.rate_limits == "on" else None,
            self._refresh.settled,
        )
        routers = [
            probes.router(lambda: self._ready),
            health_api.system_router(front, health),
            auth_api.router(front, identity),
            organizations_api.router(front, identity),
            api_keys_api.router(front, identity),
            servers_api.router(front, servers, self._discovery, operator_token=operator_token(settings.data_dir)),
            servers_api.discovery_router(front, servers, self._discovery),
            health_api.router(front, servers),
            *further(front),
            tools_api.router(front, self.caller, url=self.url),
            tools_api.test_router(front, self.caller),
        ]
        self._api = behind_edge(create_api(routers, version=VERSION), settings, host)

    def _wire_data_path(
        self,
        settings: Settings,
        host: str,
        events: EventBus,
        servers: ServerService,
        usage: UsageService,
        health: HealthService,
        own_tools: Sequence[Tool[Any]],
    ) -> None:
        self._upstreams = Upstreams(self._egress, self._clock, stdio_user=settings.stdio_user)
        self._discovery = Discovery(self.database, servers, Prober(self._upstreams, self._clock))
        catalog = Catalog(lambda org_id: own_server(org_id, toolbox.definitions()), settings.catalog_ttl_seconds)
        self._notices = Notices()
        self._flights = Flights()
        self._recorder = Recorder(usage.write, durable=settings.audit == "durable")
        self._refresh = CatalogRefresh(_StoredOffers(self.database, servers), catalog, self._upstreams, self._notices)
        events.subscribe(CatalogChanged, lambda changed: self._refresh.changed(changed.org_id))
        toolbox = Toolbox(
            [
                *ServerTools(self.database, servers, self._discovery).tools(),
                *HealthTools(self.database, servers, health).tools(),
                *own_tools,
            ],
            self._refresh.settled,
        )
        self._upstreams.add_local(SLUG, LocalUpstream(toolbox))
        stop = StopPolicy(self._switch, self._flights)
        self._switch.on_stop(stop.end_calls)
        policies = [PermissionPolicy(), stop]
        router = Router(
            catalog=catalog,
            upstreams=self._upstreams,
            keeping=CallKeeping(policies, self._recorder, self._flights, self._clock, stop.recheck),
            notices=self._notices,
            states=RequestStates(Sealer(self._master, "request-states"), self._clock),
        )
        self.caller = ToolCaller(router)
        sessions = LegacySessions(Sealer(self._master, "sessions"), self._clock)
        hosts = HostPolicy(host, settings.public_url, settings.allowed_hosts)
        visits = Visits(settings.public_calls_per_minute if settings.rate_limits == "on" else None, self._clock)
        handler = Handler(self._authenticator, router, sessions, visits)
        self._mcp = McpEndpoint(handler, hosts, settings.max_body_bytes, self._addresses.of)

    async def prepare(self) -> FirstRun | None:
        """Bring the database to the newest schema, and fill an empty one."""
        await migrate(self.database)
        settings = self._settings
        preset = Preset(
            email=settings.admin_email,
            password=settings.admin_password.get_secret_value() if settings.admin_password else None,
            api_key=settings.admin_api_key.get_secret_value() if settings.admin_api_key else None,
        )
        async with self.database.transaction() as session:
            made = await ensure_first_run(session, preset, url=self.url, master=self._master, clock=self._clock)
            if made is not None:
                made.keep(settings.data_dir)
        return made

    async def start(self) -> None:
        await self._switch.start()
        await self._refresh.start()
        self._recorder.start()
        self._flights.start()
        self._ready = True

    def drain(self) -> None:
        """Stop being ready and end the streams that would never end by themselves."""
        self._ready = False
        self._notices.end_all()

    async def stop(self) -> None:
        self.drain()
        await self._switch.stop()
        await self._refresh.stop()
        await self._flights.stop()
        await self._upstreams.close()
        await self._recorder.stop()
        await self._authenticator.close()
        await self._egress.close()
        await self.database.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            address = address_of(scope["path"])
            if address is not None:
                await self._mcp.serve(address, scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        await self._api(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            log.exception("the gateway could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


class _Server(uvicorn.Server):
    """uvicorn's server; the application hears of the end before its connections are waited for."""

    def __init__(self, application: Application, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._application = application

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.drain()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket; taken before anything is made, so that a port in use leaves nothing behind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PortTaken(f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with --port.") from None


class PortTaken(GatehouseError):
    code = "PORT_TAKEN"
    title = "Port taken"


async def _serve(settings: Settings, host: str, listening: socket.socket) -> int:
    application = Application(settings, host, listening.getsockname()[1])
    made = await application.prepare()
    server = _Server(
        application,
        uvicorn.Config(
            application,
            http="httptools",
            ws="websockets-sansio",
            lifespan="on",
            log_config=None,
            access_log=False,
            # Who may say where a request came from is a setting of ours; uvicorn would believe any loopback peer.
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        ),
    )
    print(_welcome(settings, application.url, made), flush=True)
    await server.serve(sockets=[listening])
    return 0 if server.started else 1


def _welcome(settings: Settings, url: str, made: FirstRun | None) -> str:
    lines = [f"Gatehouse at {url}  (data in {settings.data_dir})"]
    if made is not None:
        lines += [
            "",
            "First run. Kept in first-run.txt; shown here this once:",
            *(f"  {line}" for line in made.lines() if not line.startswith(("url=", "agent_"))),
            "",
            "Connect Claude Code with:",
            f"  claude mcp add --transport http gatehouse {url}/mcp {_header(made.agent_api_key)}",
        ]
    return "\n".join(lines)


def _header(key: str) -> str:
    return f'--header "Authorization: Bearer {key}"'


def serve(settings: Settings, host: str, port: int, workers: int = 1) -> int:
    """Run the gateway until it is told to stop; the exit code of the process.

    Args:
        workers: processes that share the port.
    """
    configure_logs(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, host, _listen(host, port)))
