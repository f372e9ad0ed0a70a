"""Runs the application on uvicorn: listens, greets whoever started it, drains at the end. Wires nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn
import uvloop

from gateway.app import Application
from gateway.busy_polling import BusyPolling
from gateway.edge import GuardedHttp
from gateway.memory import keep_freed
from gateway.realtime.upgrade import MAX_MESSAGE, websocket_protocol
from gateway.workers import Workers
from registry.core.errors import GatehouseError
from registry.core.logs import configure_logs

if TYPE_CHECKING:
    from registry.core.settings import Settings
    from registry.identity.first_run import FirstRun

DRAIN_SECONDS = 10
BACKLOG = 4096
COLLECT_AFTER = (10_000, 20, 20)
"""Thresholds of the collector of cycles: a call makes many objects and no cycles."""


def http_protocol(settings: Settings) -> Any:
    """What uvicorn makes of each HTTP connection."""
    return partial(GuardedHttp, BusyPolling(settings.busy_poll_microseconds / 1e6))


class _Server(uvicorn.Server):
    """uvicorn's server; the application hears of the end before its connections are waited for."""

    def __init__(self, application: Application) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=http_protocol(application.ground.settings),
                ws=cast("Any", websocket_protocol),
                ws_max_size=MAX_MESSAGE,
                lifespan="on",
                log_config=None,
                access_log=False,
                # Who may say where a request came from is a setting of ours; uvicorn would believe any loopback peer.
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._application = application

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What has been made until here stays: no collection has to look through it again, while calls wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

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


class LimitsNeedRedis(GatehouseError):
    code = "LIMITS_NEED_REDIS"
    title = "Limits need Redis"


async def _prepare(application: Application, settings: Settings) -> None:
    made = await application.prepare()
    print(_welcome(settings, application.url, made), flush=True)


async def _serve(application: Application, listening: socket.socket, lifeline: int | None = None) -> int:
    server = _Server(application)

    def orphaned(ended: int) -> None:
        server.should_exit = True
        asyncio.get_running_loop().remove_reader(ended)

    if lifeline is not None:
        asyncio.get_running_loop().add_reader(lifeline, orphaned, lifeline)
    await server.serve(sockets=[listening])
    return 0 if server.started else 1


def _alone(settings: Settings, host: str, listening: socket.socket) -> int:
    async def run() -> int:
        application = Application(settings, host, listening.getsockname()[1])
        await _prepare(application, settings)
        return await _serve(application, listening)

    with _loop() as runner:
        return runner.run(run())


def _with_workers(settings: Settings, host: str, listening: socket.socket, number: int) -> int:
    async def prepare() -> None:
        application = Application(settings, host, listening.getsockname()[1])
        await _prepare(application, settings)
        await application.database.close()

    async def run(lifeline: int) -> int:
        return await _serve(Application(settings, host, listening.getsockname()[1]), listening, lifeline)

    def work(lifeline: int) -> int:
        with _loop() as runner:
            return runner.run(run(lifeline))

    with _loop() as runner:
        runner.run(prepare())
    return Workers(work, number, patience=2 * DRAIN_SECONDS).run()


def _loop() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


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

    Raises:
        PortTaken: somebody else listens there.
        LimitsNeedRedis: limits were set that several processes can only keep together.
    """
    configure_logs(settings.log_level, settings.log_format)
    keep_freed()
    if workers == 1:
        return _alone(settings, host, _listen(host, port))
    if settings.redis_url is None and (settings.calls_per_minute or settings.call_limits):
        raise LimitsNeedRedis(
            "GATEHOUSE_CALLS_PER_MINUTE and GATEHOUSE_CALL_LIMITS hold for several workers together only with "
            "GATEHOUSE_REDIS_URL: set it, leave the limits out, or start one worker."
        )
    return _with_workers(settings, host, _listen(host, port), workers)
