"""The whole gateway, wired together and served. `gateway.wiring` makes the parts, this joins them.

`Application` is the front door as one ASGI callable: MCP addresses go straight to the MCP endpoint, everything else
to the REST façade. `gateway.server` runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.api.application import behind_edge, create_api
from gateway.auth.authenticator import Authenticator
from gateway.mcp.endpoint import Receive, Scope, Send
from gateway.mcp.handler import address_of
from gateway.mcp.sse_clients import sse_address_of
from gateway.realtime.health import HealthSockets, followed_server
from gateway.wiring.background import Background
from gateway.wiring.data_path import DataPath
from gateway.wiring.facade import routers
from gateway.wiring.ground import Ground
from gateway.wiring.observability import Observability
from gateway.wiring.services import Services
from gateway.wiring.tools import own_tools
from gateway.wiring.workspaces import Workspaces
from registry.core.version import VERSION
from registry.identity.first_run import FirstRun, Preset, ensure_first_run
from registry.migrations.runner import migrate

if TYPE_CHECKING:
    from registry.core.settings import Settings

log = structlog.get_logger(__name__)


class Application:
    """The whole gateway in one process.

    Args:
        host, port: where it listens, for its own address and the allowed values of `Host`.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self.ground = ground = Ground(settings, host, port)
        self.url = ground.url
        self.database = ground.database
        self._services = services = Services.make(ground)
        self._authenticator = Authenticator(
            ground.database, services.identity, ground.events, ground.clock, [services.oauth, services.external]
        )
        self.workspaces = Workspaces(ground, services)
        self.path = DataPath(ground, services, self._authenticator, self.workspaces.door)
        self.workspaces.pay_from(self.path.desk)
        self.path.offer(own_tools(ground, services, self.path, self.workspaces))
        self._observability = Observability(ground, self.path)
        self._sockets = HealthSockets(ground.database, self._authenticator, ground.hosts, ground.clock, ground.events)
        self._background = Background(ground, services, self.path)
        self._ready = False
        api = create_api(
            routers(
                ground,
                services,
                self.path,
                self.workspaces,
                self._authenticator,
                self._observability,
                lambda: self._ready,
            ),
            version=VERSION,
        )
        self._api = behind_edge(api, settings, host)

    async def prepare(self) -> FirstRun | None:
        """Bring the database to the newest schema, and fill an empty one."""
        await migrate(self.database)
        settings, ground = self.ground.settings, self.ground
        preset = Preset(
            email=settings.admin_email,
            password=settings.admin_password.get_secret_value() if settings.admin_password else None,
            api_key=settings.admin_api_key.get_secret_value() if settings.admin_api_key else None,
        )
        async with self.database.transaction() as session:
            made = await ensure_first_run(session, preset, url=ground.url, master=ground.master, clock=ground.clock)
            if made is not None:
                made.keep(settings.data_dir)
        return made

    async def start(self) -> None:
        await self.path.start()
        self.workspaces.start()
        self._background.start()
        self._observability.start()
        self._ready = True

    def drain(self) -> None:
        """Stop being ready and end the streams that would never end by themselves."""
        self._ready = False
        self._sockets.end_all()
        self.path.drain()

    async def stop(self) -> None:
        self.drain()
        await self._sockets.stop()
        await self._background.stop()
        await self.path.stop()
        await self.workspaces.stop()
        await self._observability.stop()
        await self._authenticator.close()
        await self.ground.egress.close()
        await self.database.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            address = address_of(scope["path"], scope["query_string"])
            if address is not None:
                await self.path.mcp.serve(address, scope, receive, send)
                return
            sse_address = sse_address_of(scope["path"], scope["query_string"])
            if sse_address is not None:
                await self.path.sse.serve(sse_address, scope, receive, send)
                return
        elif scope["type"] == "websocket":
            server_id = followed_server(scope["path"])
            if server_id is not None:
                await self._sockets.serve(server_id, scope, receive, send)
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
