"""The data path: catalog, policies, upstreams, sessions and the MCP endpoints, joined; with their beginning and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.auth.challenge import Challenges
from gateway.mcp.call import CallKeeping
from gateway.mcp.caller import ToolCaller
from gateway.mcp.catalog import Catalog
from gateway.mcp.endpoint import McpEndpoint
from gateway.mcp.flights import Flights
from gateway.mcp.handler import Handler
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
from gateway.mcp.sse_clients import SseClients
from gateway.mcp.streams import Streams
from gateway.mcp.task_notices import TaskNotices
from gateway.mcp.tasks import TaskIds
from gateway.mcp.upstream.check import Checker
from gateway.mcp.upstream.concurrency import parse_concurrency
from gateway.mcp.upstream.local import SLUG, LocalUpstream
from gateway.mcp.upstream.manager import Upstreams
from gateway.mcp.upstream.probe import Prober
from gateway.mcp.visits import Visits
from gateway.mcp.watch import Watches
from gateway.mcp.why import Explainer
from gateway.observability.traces import Traces
from mcp_tools.tool import Tool, Toolbox
from registry.approvals.desk import ApprovalDesk
from registry.approvals.rulebook import Rulebook
from registry.budgets.desk import Desk
from registry.budgets.events import LimitsChanged
from registry.budgets.ledger import Ledger
from registry.budgets.queries import StoredTerms
from registry.catalogues.importing import ServerImport
from registry.core.db import Database
from registry.core.security import Digester, Sealer
from registry.emergency.switch import EmergencySwitch
from registry.incidents.service import IncidentService
from registry.servers.changes import CatalogChanges
from registry.servers.discovery import Discovery, discoverer
from registry.servers.events import OffersChanged
from registry.servers.upkeep import Upkeep
from registry.sessions.redis import RedisSessions
from registry.sessions.service import StoredSessions
from registry.teams.events import TeamsChanged
from registry.workspaces import offer as workspace_offer

if TYPE_CHECKING:
    from gateway.auth.authenticator import Authenticator
    from gateway.mcp.policies.policy import Policy
    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services
    from gateway.wiring.workspaces import Door
    from mcp_tools.explanation import Explanation
    from registry.access.rule import AccessBook
    from registry.identity.principal import Principal
    from registry.servers.connection import Connection, ServerOffer
    from registry.sets.members import SetOffer


class _StoredOffers:
    """The registry as the catalog's source."""

    def __init__(self, ground: Ground, services: Services) -> None:
        self._database = ground.database
        self._servers = services.servers
        self._sets = services.sets
        self._access = services.access

    async def load(
        self, org_id: str | None
    ) -> tuple[Sequence[ServerOffer], Sequence[SetOffer], Mapping[str, AccessBook]]:
        async with self._database.reading() as session:
            servers, sets = await self._servers.catalog(session, org_id), await self._sets.catalog(session, org_id)
            workspaces = await workspace_offer.offers(session, org_id)
            return [*servers, *workspaces], sets, await self._access.books(session, org_id)


class DataPath:
    """What a call passes, from the address to the upstream. The gateway's own tools are offered afterwards."""

    def __init__(self, ground: Ground, services: Services, authenticator: Authenticator, workspaces: Door) -> None:
        self._ground = ground
        self._workspaces = workspaces
        self._services = services
        self._toolbox = Toolbox([], self.settled)
        self._shared_rates: RedisBuckets | None = None
        self._wire_catalog()
        self._wire_policies()
        self._wire_endpoints(authenticator)

    def _wire_catalog(self) -> None:
        ground, services, settings = self._ground, self._services, self._ground.settings
        database, clock = ground.database, ground.clock
        self.upstreams = Upstreams(
            ground.egress,
            clock,
            services.accounts,
            stdio_user=settings.stdio_user,
            concurrency=parse_concurrency(settings.concurrent_calls, settings.concurrency_limits),
            workspaces=self._workspaces,
            containers=self._workspaces,
        )
        prober = Prober(self.upstreams, clock)
        self.discovery = Discovery(database, services.servers, prober)
        self.imports = ServerImport(database, self.discovery)
        self.catalog = Catalog(
            lambda org_id: own_server(org_id, self._toolbox.definitions()), settings.catalog_ttl_seconds
        )
        self.checker = Checker(self.catalog, self.upstreams, prober, ground.egress, clock)
        self.notices = Notices()
        self._watches = Watches(self.catalog, self.upstreams, self.notices, clock, self._rediscover)
        self._refresh = CatalogRefresh(
            _StoredOffers(ground, services), self.catalog, self.upstreams, self.notices, self._watches
        )
        ground.events.subscribe(OffersChanged, lambda changed: self._refresh.changed(changed.org_id))
        self._changes = CatalogChanges(database, clock, self._refresh.changed)
        self._upkeep = Upkeep(database, self.discovery, clock, settings.catalog_ttl_seconds)

    def _wire_policies(self) -> None:
        ground, services, settings = self._ground, self._services, self._ground.settings
        database, clock, master = ground.database, ground.clock, ground.master
        self.flights = Flights()
        self.recorder = Recorder(services.usage.write, durable=settings.audit == "durable")
        self._stops_database = Database(settings.resolved_database_url, ground.events)
        self._switch = EmergencySwitch(self._stops_database, ground.events, clock)
        self._stop = StopPolicy(self._switch, self.flights)
        self._switch.on_stop(self._stop.end_calls)
        self.desk = Desk(Ledger(database, clock, services.audit), StoredTerms(database), clock)
        ground.events.subscribe(LimitsChanged, lambda _changed: self.desk.changed())
        ground.events.subscribe(TeamsChanged, lambda _changed: self.desk.changed())
        self._rulebook = Rulebook(database, ground.events, clock)
        approvals = ApprovalDesk(database, clock, services.audit, Sealer(master, "approvals"), self._rulebook)
        self._approval = ApprovalPolicy(approvals, Sealer(master, "approval-states"))
        self._sizes = SizePolicy(
            Caps(settings.max_argument_bytes, settings.max_result_bytes), parse_size_limits(settings.size_limits)
        )
        pinning, budget = PinningPolicy(), BudgetPolicy(self.desk)
        self._explainer = Explainer(self.catalog, self._stop, pinning, self._approval, budget, self._rates_of)
        incidents = IncidentService(database, services.audit)
        self._policies: list[Policy] = [
            PermissionPolicy(),
            self._stop,
            pinning,
            self._sizes,
            CanaryPolicy(lambda org_id: self.catalog.of(org_id).secrets, incidents),
            *self._rate_limits(),
            self._approval,
            budget,
        ]

    def _wire_endpoints(self, authenticator: Authenticator) -> None:
        ground, settings = self._ground, self._ground.settings
        self.traces = Traces() if settings.traces == "on" else None
        clock, master = ground.clock, ground.master
        streams = Streams(self.flights, settings.max_streams_per_caller)
        tasks = TaskIds(Digester(master, "tasks"))
        router = Router(
            catalog=self.catalog,
            upstreams=self.upstreams,
            keeping=CallKeeping(self._policies, self.recorder, self.flights, clock, self._stop.recheck, self.traces),
            notices=self.notices,
            streams=streams,
            states=RequestStates(Sealer(master, "request-states"), clock),
            tasks=tasks,
            task_notices=TaskNotices(tasks, self.upstreams, clock),
            sizes=self._sizes,
            approval=self._approval,
        )
        self.caller = ToolCaller(router)
        self.sessions = LegacySessions(
            Sealer(master, "sessions"),
            Digester(master, "sessions"),
            clock,
            RedisSessions(settings.redis_url, clock) if settings.redis_url else StoredSessions(ground.database, clock),
            idle_seconds=settings.session_idle_seconds,
            on_end=self.upstreams.end_sessions,
            on_watched=self.notices.watches_changed,
        )
        visits = Visits(settings.public_calls_per_minute if settings.rate_limits == "on" else None, clock)
        handler = Handler(authenticator, router, self.sessions, streams, visits)
        challenges = Challenges(ground.origin)
        self.mcp = McpEndpoint(handler, ground.hosts, settings.max_body_bytes, ground.addresses.of, challenges)
        self.sse_clients = SseClients(handler, streams)
        self.sse = McpEndpoint(self.sse_clients, ground.hosts, settings.max_body_bytes, ground.addresses.of, challenges)

    def _rate_limits(self) -> list[RatePolicy]:
        settings, clock = self._ground.settings, self._ground.clock
        by_name = parse_call_limits(settings.call_limits)
        if not settings.calls_per_minute and not by_name:
            return []
        self._shared_rates = RedisBuckets(settings.redis_url, clock) if settings.redis_url else None
        return [RatePolicy(self._shared_rates or MemoryBuckets(clock), settings.calls_per_minute, by_name)]

    def _rates_of(self, server: str, tool: str) -> str | None:
        settings = self._ground.settings
        by_name = parse_call_limits(settings.call_limits)
        limits = {"caller": settings.calls_per_minute, server: by_name.get(server), tool: by_name.get(tool)}
        said = [f"{amount} calls a minute for {name}" for name, amount in limits.items() if amount]
        return f"{'; '.join(said)}." if said else None

    async def _rediscover(self, connection: Connection) -> None:
        """Read a server's lists anew because it said that they changed."""
        await self.discovery.discover(discoverer(connection.org_id), connection.server_id)

    def offer(self, tools: list[Tool[Any]]) -> None:
        """Offer the gateway's own tools, as one more upstream."""
        self._toolbox = Toolbox(tools, self.settled)
        self._services.sets.offer_own(SLUG, self._toolbox.definitions())
        self.upstreams.add_local(SLUG, LocalUpstream(self._toolbox))

    async def explain(self, principal: Principal, tool: str) -> Explanation:
        """See `Explains`."""
        return await self._explainer.explain(principal, tool)

    async def settled(self) -> None:
        """Return when every change so far is in force here."""
        await self._refresh.settled()
        await self.desk.settled()

    async def start(self) -> None:
        await self._switch.start()
        await self._rulebook.start()
        await self._services.accounts.start()
        # Followed before anything is loaded, so that no change falls in between.
        await self._changes.start()
        await self._refresh.start()
        self._upkeep.start()
        self.sessions.start()
        await self.desk.start()
        self.recorder.start()
        self.flights.start()

    def drain(self) -> None:
        """End the streams that would never end by themselves."""
        self.notices.end_all()
        self.sse_clients.end_all()

    async def stop(self) -> None:
        self.drain()
        await self._switch.stop()
        await self._stops_database.close()
        await self._rulebook.stop()
        await self._upkeep.stop()
        await self._changes.stop()
        await self._refresh.stop()
        await self._watches.stop()
        await self.flights.stop()
        await self.sessions.stop()
        await self.upstreams.close()
        await self._services.accounts.stop()
        await self.desk.stop()
        await self.recorder.stop()
        if self._shared_rates is not None:
            await self._shared_rates.close()
