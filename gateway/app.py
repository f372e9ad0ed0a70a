"""Wires everything together, and serves it. The only place where the parts meet.

`Application` is the front door as one ASGI callable: MCP addresses go straight to the MCP endpoint, everything else
to the REST façade. `gateway.server` runs it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from gateway.api.agents import budgets as budgets_api
from gateway.api.agents import emergency as emergency_api
from gateway.api.application import behind_edge, create_api
from gateway.api.registry import api_keys as api_keys_api
from gateway.api.registry import approvals as approvals_api
from gateway.api.registry import audit as audit_api
from gateway.api.registry import auth as auth_api
from gateway.api.registry import health as health_api
from gateway.api.registry import openapi as openapi_api
from gateway.api.registry import organizations as organizations_api
from gateway.api.registry import pins as pins_api
from gateway.api.registry import servers as servers_api
from gateway.api.registry import sets as sets_api
from gateway.api.registry import tools as tools_api
from gateway.api.registry import usage as usage_api
from gateway.api.registry import why as why_api
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
from gateway.mcp.policies.approval import ApprovalPolicy
from gateway.mcp.policies.budget import BudgetPolicy
from gateway.mcp.policies.canary import CanaryPolicy
from gateway.mcp.policies.permission import PermissionPolicy
from gateway.mcp.policies.pinning import PinningPolicy
from gateway.mcp.policies.rate import MemoryBuckets, RatePolicy, parse_call_limits
from gateway.mcp.policies.rate_redis import RedisBuckets
from gateway.mcp.policies.sizes import Caps, SizePolicy, parse_size_limits
from gateway.mcp.policies.stop import StopPolicy
from gateway.mcp.records import Recorder
from gateway.mcp.refresh import CatalogRefresh
from gateway.mcp.request_state import RequestStates
from gateway.mcp.router import Router
from gateway.mcp.sessions import LegacySessions
from gateway.mcp.sse_clients import SseClients, sse_address_of
from gateway.mcp.streams import Streams
from gateway.mcp.task_notices import TaskNotices
from gateway.mcp.tasks import TaskIds
from gateway.mcp.upstream.local import SLUG, LocalUpstream
from gateway.mcp.upstream.manager import Upstreams
from gateway.mcp.upstream.probe import Prober
from gateway.mcp.visits import Visits
from gateway.mcp.watch import Watches
from gateway.mcp.why import Explainer
from mcp_tools.approvals import ApprovalTools
from mcp_tools.audit import AuditTools
from mcp_tools.budgets import BudgetTools
from mcp_tools.emergency import EmergencyTools
from mcp_tools.health import HealthTools
from mcp_tools.openapi import OpenApiTools
from mcp_tools.pins import PinTools
from mcp_tools.servers import ServerTools
from mcp_tools.sets import SetTools
from mcp_tools.tool import Tool, Toolbox
from mcp_tools.usage import UsageTools
from mcp_tools.why import WhyTools
from registry.approvals.desk import ApprovalDesk
from registry.approvals.rulebook import Rulebook
from registry.approvals.service import ApprovalService
from registry.audit.log import AuditLog, Changes
from registry.audit.service import AuditService
from registry.audit.verify import CHANGES_TABLE, AuditVerifier
from registry.budgets.desk import Desk
from registry.budgets.events import LimitsChanged
from registry.budgets.ledger import Ledger
from registry.budgets.queries import StoredTerms
from registry.budgets.service import BudgetService
from registry.core.clock import Clock, SystemClock
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy, parse_allow
from registry.core.events import EventBus
from registry.core.idempotency import IdempotencyStore
from registry.core.security import Digester, Sealer, derive_key, load_master_key
from registry.core.version import VERSION
from registry.emergency.service import EmergencyService
from registry.emergency.switch import EmergencySwitch
from registry.health.service import HealthService
from registry.identity.first_run import FirstRun, Preset, ensure_first_run, operator_token
from registry.identity.service import IdentityService
from registry.incidents.service import IncidentService
from registry.migrations.runner import migrate
from registry.openapi.service import OpenApiImport
from registry.pins.judge import Judge
from registry.pins.service import PinService
from registry.servers.changes import CatalogChanges
from registry.servers.discovery import Discovery, discoverer
from registry.servers.events import OffersChanged
from registry.servers.prices import PriceService
from registry.servers.service import ServerService
from registry.servers.upkeep import Upkeep
from registry.sessions.redis import RedisSessions
from registry.sessions.service import StoredSessions
from registry.sets.service import SetService
from registry.usage.log import Calls
from registry.usage.service import CALLS_TABLE, UsageService

if TYPE_CHECKING:
    from mcp_tools.explanation import Explanation
    from registry.core.settings import Settings
    from registry.identity.principal import Principal
    from registry.servers.connection import Connection, ServerOffer
    from registry.sets.members import SetOffer

log = structlog.get_logger(__name__)


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

    def __init__(self, database: Database, servers: ServerService, sets: SetService) -> None:
        self._database = database
        self._servers = servers
        self._sets = sets

    async def load(self, org_id: str | None) -> tuple[Sequence[ServerOffer], Sequence[SetOffer]]:
        async with self._database.reading() as session:
            return await self._servers.catalog(session, org_id), await self._sets.catalog(session, org_id)


@dataclass(frozen=True, slots=True)
class _Services:
    """The registry's services, made once; what stands on them takes the ones it needs."""

    audit: AuditService
    audit_log: AuditLog
    verifier: AuditVerifier
    identity: IdentityService
    servers: ServerService
    sets: SetService
    usage: UsageService
    health: HealthService
    emergency: EmergencyService
    budgets: BudgetService
    prices: PriceService
    pins: PinService
    approvals: ApprovalService

    @classmethod
    def make(cls, settings: Settings, database: Database, clock: Clock, master: bytes) -> _Services:
        audit_key = derive_key(master, "audit")
        audit = AuditService(clock, audit_key)
        usage = UsageService(database, clock, audit_key)
        tables = (CHANGES_TABLE, CALLS_TABLE)
        return cls(
            audit=audit,
            audit_log=AuditLog(database, [Changes(), Calls()]),
            verifier=AuditVerifier(database, clock, audit_key, tables, own=[usage.chain]),
            identity=IdentityService(clock, audit, master, access_token_minutes=settings.access_token_minutes),
            servers=ServerService(
                clock,
                Sealer(master, "servers"),
                audit,
                pinning=Judge(clock, audit),
                stdio_without_proof=settings.stdio_api == "on",
            ),
            sets=SetService(clock, audit),
            usage=usage,
            health=HealthService(database, clock),
            emergency=EmergencyService(clock, audit),
            budgets=BudgetService(clock, audit),
            prices=PriceService(audit),
            pins=PinService(clock, audit),
            approvals=ApprovalService(clock, audit, Sealer(master, "approvals")),
        )


class Application:
    """The whole gateway in one process.

    Args:
        host, port: where it listens, for its own address and the allowed values of `Host`.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._settings = settings
        self.url = settings.public_url or f"http://{_named(host)}:{port}"
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        given = settings.secret_key.get_secret_value() if settings.secret_key else None
        self._master = load_master_key(given, settings.data_dir)
        self._clock = SystemClock()
        self._events = EventBus()
        self.database = Database(settings.resolved_database_url, self._events)
        self._services = services = _Services.make(settings, self.database, self._clock, self._master)
        self._authenticator = Authenticator(self.database, services.identity, self._events, self._clock)
        allow = parse_allow(settings.egress_allow or ())
        self._egress = Egress(EgressPolicy(allow=allow, local_mode=local_mode(settings, host)))
        self._imports = OpenApiImport(services.servers, self._egress)
        self._switch = EmergencySwitch(self.database, self._events, self._clock)
        ledger = Ledger(self.database, self._clock, services.audit)
        self._desk = Desk(ledger, StoredTerms(self.database), self._clock)
        self._events.subscribe(LimitsChanged, lambda _changed: self._desk.changed())
        self._rulebook = Rulebook(self.database, self._events, self._clock)
        self._addresses = ClientAddress(settings.trusted_proxies)
        self._hosts = HostPolicy(host, settings.public_url, settings.allowed_hosts)
        self._shared: RedisBuckets | None = None
        self._ready = False
        self._wire_data_path()
        self._wire_api(host)

    def _wire_data_path(self) -> None:
        settings, services, clock = self._settings, self._services, self._clock
        self._upstreams = Upstreams(self._egress, clock, stdio_user=settings.stdio_user)
        self._discovery = Discovery(self.database, services.servers, Prober(self._upstreams, clock))
        catalog = Catalog(lambda org_id: own_server(org_id, toolbox.definitions()), settings.catalog_ttl_seconds)
        self._notices = Notices()
        self._flights = Flights()
        self._recorder = Recorder(services.usage.write, durable=settings.audit == "durable")
        offers = _StoredOffers(self.database, services.servers, services.sets)
        self._watches = Watches(catalog, self._upstreams, self._notices, clock, self._rediscover)
        self._refresh = CatalogRefresh(offers, catalog, self._upstreams, self._notices, self._watches)
        self._events.subscribe(OffersChanged, lambda changed: self._refresh.changed(changed.org_id))
        self._changes = CatalogChanges(self.database, clock, self._refresh.changed)
        self._upkeep = Upkeep(self.database, self._discovery, clock, settings.catalog_ttl_seconds)
        toolbox = Toolbox(self._tools(), self._settled)
        services.sets.offer_own(SLUG, toolbox.definitions())
        self._upstreams.add_local(SLUG, LocalUpstream(toolbox))
        stop = StopPolicy(self._switch, self._flights)
        self._switch.on_stop(stop.end_calls)
        sizes = SizePolicy(
            Caps(settings.max_argument_bytes, settings.max_result_bytes), parse_size_limits(settings.size_limits)
        )
        approval = self._approval()
        pinning, budget = PinningPolicy(), BudgetPolicy(self._desk)
        self._explainer = Explainer(catalog, stop, pinning, approval, budget, self._rates_of)
        policies = [
            PermissionPolicy(),
            stop,
            pinning,
            sizes,
            CanaryPolicy(lambda org_id: catalog.of(org_id).secrets, IncidentService(self.database, services.audit)),
            *self._rate_limits(),
            approval,
            budget,
        ]
        streams = Streams(self._flights, settings.max_streams_per_caller)
        tasks = TaskIds(Digester(self._master, "tasks"))
        router = Router(
            catalog=catalog,
            upstreams=self._upstreams,
            keeping=CallKeeping(policies, self._recorder, self._flights, clock, stop.recheck),
            notices=self._notices,
            streams=streams,
            states=RequestStates(Sealer(self._master, "request-states"), clock),
            tasks=tasks,
            task_notices=TaskNotices(tasks, self._upstreams, clock),
            sizes=sizes,
            approval=approval,
        )
        self.caller = ToolCaller(router)
        self._sessions = LegacySessions(
            Sealer(self._master, "sessions"),
            Digester(self._master, "sessions"),
            clock,
            RedisSessions(settings.redis_url, clock) if settings.redis_url else StoredSessions(self.database, clock),
            idle_seconds=settings.session_idle_seconds,
            on_end=self._upstreams.end_sessions,
            on_watched=self._notices.watches_changed,
        )
        visits = Visits(settings.public_calls_per_minute if settings.rate_limits == "on" else None, clock)
        handler = Handler(self._authenticator, router, self._sessions, streams, visits)
        self._mcp = McpEndpoint(handler, self._hosts, settings.max_body_bytes, self._addresses.of)
        self._sse_clients = SseClients(handler, streams)
        self._sse = McpEndpoint(self._sse_clients, self._hosts, settings.max_body_bytes, self._addresses.of)

    def _approval(self) -> ApprovalPolicy:
        sealer = Sealer(self._master, "approvals")
        desk = ApprovalDesk(self.database, self._clock, self._services.audit, sealer, self._rulebook)
        return ApprovalPolicy(desk, Sealer(self._master, "approval-states"))

    async def explain(self, principal: Principal, tool: str) -> Explanation:
        """See `Explains`."""
        return await self._explainer.explain(principal, tool)

    def _rates_of(self, server: str, tool: str) -> str | None:
        by_name = parse_call_limits(self._settings.call_limits)
        limits = {"caller": self._settings.calls_per_minute, server: by_name.get(server), tool: by_name.get(tool)}
        said = [f"{amount} calls a minute for {name}" for name, amount in limits.items() if amount]
        return f"{'; '.join(said)}." if said else None

    def _rate_limits(self) -> list[RatePolicy]:
        settings = self._settings
        by_name = parse_call_limits(settings.call_limits)
        if not settings.calls_per_minute and not by_name:
            return []
        self._shared = RedisBuckets(settings.redis_url, self._clock) if settings.redis_url else None
        return [RatePolicy(self._shared or MemoryBuckets(self._clock), settings.calls_per_minute, by_name)]

    async def _rediscover(self, connection: Connection) -> None:
        """Read a server's lists anew because it said that they changed."""
        await self._discovery.discover(discoverer(connection.org_id), connection.server_id)

    def _tools(self) -> list[Tool[Any]]:
        services = self._services
        return [
            *ServerTools(self.database, services.servers, self._discovery).tools(),
            *OpenApiTools(self.database, services.servers, self._imports).tools(),
            *SetTools(self.database, services.sets).tools(),
            *HealthTools(self.database, services.servers, services.health).tools(),
            *WhyTools(self.database, services.identity, self).tools(),
            *PinTools(self.database, services.pins).tools(),
            *ApprovalTools(self.database, services.approvals).tools(),
            *EmergencyTools(self.database, services.emergency).tools(),
            *BudgetTools(self.database, services.budgets, services.prices).tools(),
            *UsageTools(self.database, services.usage).tools(),
            *AuditTools(self.database, services.audit_log, services.verifier).tools(),
        ]

    def _wire_api(self, host: str) -> None:
        settings, services = self._settings, self._services
        front = Front(
            self.database,
            self._authenticator,
            IdempotencyStore(self._clock, self._master),
            self._addresses,
            MemoryRateLimiter() if settings.rate_limits == "on" else None,
            self._settled,
        )
        proof = operator_token(settings.data_dir)
        routers = [
            probes.router(lambda: self._ready),
            health_api.system_router(front, services.health),
            auth_api.router(front, services.identity),
            organizations_api.router(front, services.identity),
            api_keys_api.router(front, services.identity),
            servers_api.router(front, services.servers, self._discovery, operator_token=proof),
            openapi_api.router(front, services.servers, self._imports),
            servers_api.discovery_router(front, services.servers, self._discovery),
            sets_api.router(front, services.sets),
            health_api.router(front, services.servers),
            tools_api.router(front, self.caller, url=self.url),
            tools_api.test_router(front, self.caller),
            why_api.router(front, services.identity, self),
            pins_api.router(front, services.pins),
            approvals_api.router(front, services.approvals),
            budgets_api.router(front, services.budgets),
            budgets_api.changing_router(front, services.budgets),
            budgets_api.prices_router(front, services.prices),
            emergency_api.router(front, services.emergency),
            usage_api.router(front, services.usage),
            audit_api.router(front, services.audit_log),
            audit_api.whole_router(front, services.audit_log, services.verifier),
        ]
        self._api = behind_edge(create_api(routers, version=VERSION), settings, host)

    async def _settled(self) -> None:
        """Return when every change so far is in force on the data path."""
        await self._refresh.settled()
        await self._desk.settled()

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
        await self._rulebook.start()
        # Followed before anything is loaded, so that no change falls in between.
        await self._changes.start()
        await self._refresh.start()
        self._upkeep.start()
        self._sessions.start()
        await self._desk.start()
        self._recorder.start()
        self._flights.start()
        self._ready = True

    def drain(self) -> None:
        """Stop being ready and end the streams that would never end by themselves."""
        self._ready = False
        self._notices.end_all()
        self._sse_clients.end_all()

    async def stop(self) -> None:
        self.drain()
        await self._switch.stop()
        await self._rulebook.stop()
        await self._upkeep.stop()
        await self._changes.stop()
        await self._refresh.stop()
        await self._watches.stop()
        await self._flights.stop()
        await self._sessions.stop()
        await self._upstreams.close()
        await self._desk.stop()
        await self._recorder.stop()
        if self._shared is not None:
            await self._shared.close()
        await self._authenticator.close()
        await self._egress.close()
        await self.database.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            address = address_of(scope["path"])
            if address is not None:
                await self._mcp.serve(address, scope, receive, send)
                return
            sse_address = sse_address_of(scope["path"], scope["query_string"])
            if sse_address is not None:
                await self._sse.serve(sse_address, scope, receive, send)
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
