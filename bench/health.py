"""What watching costs: 1,000 servers checked every 60 seconds, in CPU time of the gateway's process.

    python bench/health.py [SERVERS] [SECONDS]

The servers are one small program in a process of its own; the gateway runs whole, in this process, on SQLite. What it
costs without any server is measured first and taken off.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from gateway.app import Application
from registry.core.settings import Settings
from registry.servers.connection import Offer, Offered
from registry.servers.discovery import discoverer
from registry.servers.service import Registration

INTERVAL = 60
TOOL = json.dumps({"name": "say", "description": "Says it.", "inputSchema": {"type": "object"}})


class Answers(asyncio.Protocol):
    """A legacy MCP server: opens sessions, answers pings and lists one tool."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.transport.write(self.answer(rest[:length]))

    def answer(self, body: bytes) -> bytes:
        message = json.loads(body) if body else {}
        if "id" not in message:
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "bench", "version": "1"},
            },
            "ping": {},
            "tools/list": {"tools": [json.loads(TOOL)]},
        }
        whole = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(whole),
            whole,
        )


def servers(port: Any) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(Answers, "127.0.0.1", 0)
        port.value = listening.sockets[0].getsockname()[1]
        await listening.serve_forever()

    asyncio.run(run())


async def cost(seconds: float) -> float:
    """Share of a core that this process takes."""
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - wall)


async def measure(port: int, number: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        app = Application(Settings(data_dir=Path(directory), catalog_ttl_seconds=86_400), "127.0.0.1", 8000)
        await app.prepare()
        await app.start()
        idle = await cost(min(seconds, 20))
        async with app.database.reading() as session:
            rows = await (await session.connection()).exec_driver_sql("SELECT id FROM organizations")
            org_id = rows.scalar_one()
        await fill(app, str(org_id), port, number)
        await asyncio.sleep(INTERVAL + 10)
        watching = await cost(seconds)
        async with app.database.reading() as session:
            rows = await (await session.connection()).exec_driver_sql(
                "SELECT count(*), sum(failed) FROM health_samples"
            )
            print(f"{number} servers every {INTERVAL} s: {watching - idle:.2%} of a core (idle {idle:.2%})", rows.one())
        await app.stop()


async def fill(app: Application, org_id: str, port: int, number: int) -> None:
    found = Offer(
        reachable=True,
        era="legacy",
        protocol_version="2025-11-25",
        capabilities={"tools": {}},
        offered=(Offered("tool", "say", TOOL),),
        checks={"connectivity": "healthy", "handshake": "healthy", "capabilities": "healthy"},
    )
    who = discoverer(org_id)
    admin = type(who)(org_id, None, "admin", frozenset({"mcp:servers:create", "mcp:health:manage", "mcp:servers:read"}))
    services = app._services  # noqa: SLF001 - registering over REST would look at each of them first
    for begin in range(0, number, 20):
        async with app.database.transaction() as session:
            for index in range(begin, min(begin + 20, number)):
                registration = Registration(f"bench {index}", f"http://127.0.0.1:{port}/{index}/mcp")
                connection = services.servers.admit(admin, registration)
                server = await services.servers.register(session, admin, registration, connection, found)
                server.health_config = {"check_interval_seconds": INTERVAL}


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 120.0
    port = multiprocessing.Value("i", 0)
    child = multiprocessing.Process(target=servers, args=(port,), daemon=True)
    child.start()
    while not port.value:
        time.sleep(0.05)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(port.value, number, seconds))
    finally:
        child.kill()


if __name__ == "__main__":
    main()
