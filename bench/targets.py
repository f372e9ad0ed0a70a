"""What is measured: each target is a small class that knows how to prepare, start and stop one gateway.

Here are the frame and what is always there; `ceilings` and `peers` have the others, and `catalog` names them all. A
target never measures itself: readiness, load and sampling are `runner`'s and `window`'s.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from bench.client import McpClient
from bench.errors import BenchError
from bench.machine import Cores, Process, require

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN = 90.0
PLENTY = 1_000_000_000
"""Of calls or dollars: a limit that is watched and never reached."""


@dataclass(frozen=True)
class Behind:
    """One upstream to put behind a gateway; `tools` 0 means the one with echo, slow and progress."""

    name: str
    port: int
    tools: int = 0
    number: int = 0

    @property
    def path(self) -> str:
        return f"/u/{self.number}/{self.tools}/mcp" if self.tools else "/mcp"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


def expected_tools(behind: list[Behind]) -> dict[str, int]:
    """How many tools of which name must be on offer before a target is ready; each of them echoes."""
    if not behind[0].tools:
        return {"echo": 1, "slow": 1, "progress": 1}
    return {"t0": len(behind), f"t{behind[0].tools - 1}": len(behind)}


def gatehouse_python() -> str:
    """The interpreter of this checkout's environment, by a path that is the same in every directory."""
    named = os.environ.get("GATEHOUSE_BENCH_PYTHON", sys.executable)
    return str(Path(shutil.which(named) or named).absolute())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Target:
    """One gateway before, while and after it runs. `path` and `headers` say how to reach MCP on `port`."""

    name = ""
    aggregates = False  # can put many upstreams behind one endpoint
    not_offered: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Why a scenario, or every one of an era, is not asked of it: no wrong answers where none were promised."""
    patience = 1.0
    """Its windows are this many times as long at least, and so are the time-outs: for a few dozen calls a second."""

    def __init__(self, cores: Cores, run_dir: Path) -> None:
        self.cores = cores
        self.dir = run_dir / self.name
        self.port = free_port()
        self.path = "/mcp"
        self.headers: dict[str, str] = {}
        self.process: Process | None = None

    @classmethod
    def check_installed(cls) -> None:
        """Raises MissingProgram with the remedy when it cannot run here; asked before anything is measured."""

    def prepare(self, behind: list[Behind]) -> None:
        """Everything that comes before the start that is timed. The directory is empty when this is called."""

    def command(self) -> list[str]:
        """The gateway's own command line; its port, paths and secrets are known by now."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def fresh_directory(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)

    def start(self) -> None:
        log = self.dir / "log.txt"
        # In its own directory, for that is where some of them write.
        self.process = Process(self.command(), self.cores.gateway, log, self.environment(), directory=self.dir)

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            self.process = None

    def check_alive(self) -> None:
        if self.process:
            self.process.check_alive()

    def client(self, era: str = "legacy") -> McpClient:
        return McpClient(self.port, self.path, self.headers, era, timeout=15 * self.patience)

    @property
    def ready_within(self) -> float:
        """Seconds in which it must answer after its start."""
        return READY_WITHIN * self.patience

    def wait_ready(self, tools: dict[str, int]) -> list[str]:
        """Waits until the endpoint offers `tools` (see `expected_tools`) and the first of them gives a text back.

        Answers the names of all tools on offer. Raises BenchError when it takes too long or the gateway has ended.
        """
        end, last = time.monotonic() + self.ready_within, "nothing answered"
        while time.monotonic() < end:
            self.check_alive()
            try:
                with self.client() as client:
                    names = client.tools()
                    missing = [e for e, n in tools.items() if sum(is_called(name, e) for name in names) < n]
                    if not missing:
                        client.check_echo(find_tool(names, next(iter(tools))))
                        return names
                    last = f"too few tools named {', '.join(missing)} among {len(names)}"
            except (BenchError, OSError, http.client.HTTPException, ValueError) as error:
                last = f"{type(error).__name__}: {error}"
            time.sleep(0.005)
        raise BenchError(f"not ready within {self.ready_within:.0f} s: {last}")


def is_called(name: str, tool: str) -> bool:
    """Whether a gateway's name is the upstream's name, with or without a prefix."""
    return name == tool or name.endswith((f"_{tool}", f"-{tool}", f".{tool}"))


def find_tool(names: list[str], ending: str) -> str:
    """The gateway's own name of an upstream's tool. Raises BenchError when there is none."""
    for name in names:
        if is_called(name, ending):
            return name
    raise BenchError(f"no tool is called {ending}, with or without a prefix")


class Direct(Target):
    """No gateway at all: what the upstream and the load generator can do on their shared core."""

    name = "direct"

    def prepare(self, behind: list[Behind]) -> None:
        self.port, self.path = behind[0].port, behind[0].path

    def start(self) -> None:
        self.process = None


class Nginx(Target):
    """A plain reverse proxy with one worker: forwards bytes, knows neither MCP nor callers. The native ceiling."""

    name = "nginx"

    @classmethod
    def check_installed(cls) -> None:
        cls._program()

    @staticmethod
    def _program() -> str:
        return require("nginx", "apt-get install nginx-light (or nginx)")

    def prepare(self, behind: list[Behind]) -> None:
        self.path = behind[0].path
        temporary = "\n".join(
            f"    {kind}_temp_path {self.dir}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.dir / "nginx.conf").write_text(
            f"""daemon off;
worker_processes 1;
pid {self.dir}/nginx.pid;
error_log {self.dir}/error.log error;
events {{ worker_connections 8192; }}
http {{
{temporary}
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000000;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    upstream behind {{
        server 127.0.0.1:{behind[0].port};
        keepalive 512;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 16 64k;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""
        )

    def command(self) -> list[str]:
        return [
            self._program(),
            "-p",
            str(self.dir),
            "-c",
            str(self.dir / "nginx.conf"),
            "-e",
            str(self.dir / "error.log"),
        ]


class Registering(Target):
    """A gateway that is told of its upstreams over REST in a first start; the timed start is the second, same data."""

    probe = "/readyz"

    def prepare(self, behind: list[Behind]) -> None:
        self.start()
        try:
            self._wait_http()
            self.arrange(behind)
            self.wait_ready(expected_tools(behind))
        finally:
            self.stop()

    def arrange(self, behind: list[Behind]) -> None:
        """Everything that is there before the timed start, done over REST."""
        raise NotImplementedError

    def _rest(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {**self.headers, "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _wait_http(self) -> None:
        end = time.monotonic() + self.ready_within
        while time.monotonic() < end:
            self.check_alive()
            try:
                if self._rest("GET", self.probe)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass  # not listening yet
            time.sleep(0.02)
        raise BenchError(f"{self.probe} was not 200 within {self.ready_within:.0f} s")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer. Raises BenchError when it is a refusal."""
        status, answer = self._rest(method, path, body)
        if status not in {200, 201}:
            raise BenchError(f"{method} {path} answered {status}: {answer[:400].decode(errors='replace')}")
        return json.loads(answer)


class Gatehouse(Registering):
    """This checkout, as a user runs it: authentication, permission, limits, budget, audit and metering switched on."""

    name = "gatehouse"
    aggregates = True

    def prepare(self, behind: list[Behind]) -> None:
        self._key = f"mcp_bench_{secrets.token_hex(24)}"
        self._password = secrets.token_urlsafe(24)
        self.headers = {"Authorization": f"Bearer {self._key}"}
        super().prepare(behind)

    def arrange(self, behind: list[Behind]) -> None:
        for upstream in behind:
            self._register(upstream)

    def command(self) -> list[str]:
        return [
            gatehouse_python(),
            "-m",
            "gateway",
            "serve",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.dir / "data"),
        ]

    def environment(self) -> dict[str, str]:
        # the caller's own GATEHOUSE_* settings must not reach the measured one, which refuses names it does not know
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "GATEHOUSE_ADMIN_EMAIL": "bench@example.org",
            "GATEHOUSE_ADMIN_PASSWORD": self._password,
            "GATEHOUSE_ADMIN_API_KEY": self._key,
            "GATEHOUSE_RATE_LIMITS": "off",  # the façade's; a client that registers 50 servers would meet them
            "GATEHOUSE_MAX_ARGUMENT_BYTES": str(2 * 1024 * 1024),  # the largest payload is one MiB, and its quotes
        }

    def _register(self, upstream: Behind, **more: Any) -> None:
        server = {"name": upstream.name, "base_url": upstream.url, "environment": "development", **more}
        self._ask("POST", "/v1/mcp/servers", server)


class Limited(Gatehouse):
    """The same with a blocking limit in force on each call. Pinning and size caps are on in both."""

    name = "limited"

    def arrange(self, behind: list[Behind]) -> None:
        super().arrange(behind)
        self._limit("calls")

    def _limit(self, unit: str) -> None:
        limit = {"name": unit, "unit": unit, "amount": PLENTY, "action_on_exceed": "block", "period": "monthly"}
        self._ask("POST", "/api/v1/budget/limits", limit)


class Guarded(Limited):
    """The same with every kind of policy at work on each call, and none that refuses one.

    Two blocking budgets (calls and dollars), a price, rates for caller, server and tool, an access rule that decides,
    an approval rule that looks into the arguments, and another server's secret that they must not hold.
    """

    name = "guarded"

    def environment(self) -> dict[str, str]:
        rates = ",".join(f"{name}={PLENTY}" for name in ("up0", "up0__echo"))
        return {**super().environment(), "GATEHOUSE_CALLS_PER_MINUTE": str(PLENTY), "GATEHOUSE_CALL_LIMITS": rates}

    def arrange(self, behind: list[Behind]) -> None:
        super().arrange(behind)
        secret = {"X-Api-Key": secrets.token_hex(32)}
        self._register(Behind("vault", behind[0].port, tools=1, number=len(behind)), headers=secret)
        self._limit("usd")
        self._ask("POST", "/v1/access/rules", {"name": "all tools", "effect": "allow", "what": "tool", "pattern": "*"})
        dear = {"path": "amount", "compare": "gt", "value": 1000}
        self._ask("POST", "/v1/approvals/rules", {"name": "dear", "argument": dear})

    def _register(self, upstream: Behind, **more: Any) -> None:
        super()._register(upstream, price_usd=0.0001, **more)
