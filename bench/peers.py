"""The peers: other MCP gateways in Python, each as its own documentation starts it, in an environment of its own.

`bench/run --install-peers` makes the environments, with the versions pinned here, under `GATEHOUSE_BENCH_PEERS` or
`.peers` beside this file. A peer is given what speeds it up by a switch of its own and does not change what it does
(ContextForge twice: as it comes, and tuned); no peer is patched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from bench.errors import BenchError, MissingProgram
from bench.targets import ROOT, Behind, Registering, Target

PLACE = "GATEHOUSE_BENCH_PEERS"
PYTHON = "GATEHOUSE_BENCH_PEERS_PYTHON"
ENVIRONMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fastmcp": ("fastmcp==4.1.2", "uvloop==0.23.0"),
        "litellm": ("litellm[proxy]==1.106.2",),
        "contextforge": ("mcp-contextforge-gateway==1.1.0",),
    }
)
"""Environments by name and what is installed in each; ContextForge of this version needs Python 3.12."""

_RESULT_ALONE = "it drops the notifications and sends the result alone"


def place() -> Path:
    """The directory that holds the peers' environments."""
    return Path(os.environ.get(PLACE) or Path(__file__).resolve().parent / ".peers")


def install(names: Iterable[str]) -> None:
    """Makes the environments of that name, or brings them to the pinned versions. Uses uv where there is one.

    The interpreter is the one that `GATEHOUSE_BENCH_PEERS_PYTHON` names, else python3.12 of the search path. Raises
    MissingProgram without one that works, BenchError when a package cannot be had.
    """
    python = _python()
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    for name in names:
        folder, packages = place() / name, ENVIRONMENTS[name]
        inside = folder / "bin" / "python"
        if not inside.exists():
            _run([uv, "venv", "--python", python, str(folder)] if uv else [python, "-m", "venv", str(folder)])
        pip = [uv, "pip", "install", "--python", str(inside)] if uv else [str(inside), "-m", "pip", "install"]
        _run([*pip, "--quiet", *packages])


def _python() -> str:
    """An interpreter that runs and is new enough; a name on the search path may be a mere shim of a version manager."""
    wanted = os.environ.get(PYTHON, "python3.12")
    if python := shutil.which(wanted):
        question = "import sys; sys.exit(sys.version_info < (3, 12))"
        if subprocess.run([python, "-c", question], check=False, capture_output=True).returncode == 0:
            return python
    raise MissingProgram(
        f"{wanted} is not an interpreter of Python 3.12 that runs here: install one, or name it in {PYTHON}"
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(
            f"{' '.join(command[:4])} … ended with status {done.returncode}: {done.stderr[-1500:].strip()}"
        )
    return done.stdout


class Peer(Target):
    """What runs in the environment `packages`."""

    packages = ""
    patience = 2.5

    @classmethod
    def program(cls, name: str) -> str:
        """The path of a program in the environment. Raises MissingProgram with the command that makes it."""
        path = place() / cls.packages / "bin" / name
        if not path.exists():
            raise MissingProgram(
                f"{cls.packages} is not installed in {place()}: run bench/run --install-peers {cls.packages}"
            )
        return str(path)

    @classmethod
    def check_installed(cls) -> None:
        cls.program("python")


class FastMcp(Peer):
    """FastMCP's proxy on its own HTTP server with its defaults: sessions, answers as streams, no authentication."""

    name = packages = "fastmcp"

    def prepare(self, behind: list[Behind]) -> None:
        self._upstream = behind[0].url

    def command(self) -> list[str]:
        program = ROOT / "bench" / "launch" / "fastmcp_proxy.py"
        return [self.program("python"), str(program), str(self.port), self._upstream]


class LiteLlm(Peer):
    """LiteLLM's proxy with the upstream among its `mcp_servers`, a master key, and no database."""

    name = packages = "litellm"
    not_offered = MappingProxyType({"modern": "it refuses 2026-07-28", "progress": _RESULT_ALONE})

    def prepare(self, behind: list[Behind]) -> None:
        self.path = "/mcp/"
        key = f"sk-{secrets.token_hex(24)}"
        self.headers = {"Authorization": f"Bearer {key}"}
        self._config = self.dir / "config.yaml"
        self._config.write_text(
            f"""mcp_servers:
  {behind[0].name}:
    url: {behind[0].url}
    transport: http
    allow_all_keys: true
general_settings:
  master_key: {key}
"""
        )

    def command(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [self.program("litellm"), "--config", str(self._config), *where]

    def environment(self) -> dict[str, str]:
        # the table of model prices is taken from the package, not from the network
        return {**super().environment(), "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class ContextForge(Peer, Registering):
    """ContextForge as it comes: one uvicorn worker, SQLite, a JWT, the upstream's tools in one virtual server.

    Its rate limit is off, which otherwise locks a caller out after a hundred calls a minute, and loopback is allowed.
    """

    name = packages = "contextforge"
    probe = "/health"
    not_offered = MappingProxyType(
        {"progress": _RESULT_ALONE, "hold": "without sessions it refuses the GET of a stream"}
    )
    settings: ClassVar[Mapping[str, str]] = MappingProxyType({})
    _ADMIN = "bench@example.org"

    def prepare(self, behind: list[Behind]) -> None:
        self._secret = secrets.token_urlsafe(36)
        self._passwords = {
            name: f"Aa1-{secrets.token_urlsafe(24)}"
            for name in ("PLATFORM_ADMIN_PASSWORD", "DEFAULT_USER_PASSWORD", "BASIC_AUTH_PASSWORD")
        }
        self._passwords["AUTH_ENCRYPTION_SECRET"] = secrets.token_urlsafe(36)
        self.headers = {"Authorization": f"Bearer {self._token()}"}
        super().prepare(behind)

    def _token(self) -> str:
        """A JWT for its administrator, made by its own command."""
        module = [self.program("python"), "-m", "mcpgateway.utils.create_jwt_token"]
        whose = ["--username", self._ADMIN, "--exp", "10080", "--secret", self._secret]
        done = subprocess.run(
            [*module, *whose], check=False, capture_output=True, text=True, env=self.environment(), cwd=self.dir
        )
        words = done.stdout.split()
        if done.returncode or not words:
            raise BenchError(f"ContextForge made no token: {done.stderr[-400:].strip()}")
        return words[-1]

    def arrange(self, behind: list[Behind]) -> None:
        server = {"name": behind[0].name, "url": behind[0].url, "transport": "STREAMABLEHTTP"}
        self._ask("POST", "/gateways", server)
        tools = [tool["id"] for tool in self._ask("GET", "/tools?limit=0")]
        bundle = {"name": "bench", "description": "all tools", "associated_tools": tools}
        made = self._ask("POST", "/servers", {"server": bundle})
        self.path = f"/servers/{made['id']}/mcp"

    def command(self) -> list[str]:
        return [self.program("mcpgateway"), "--host", "127.0.0.1", "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            **self._passwords,
            "PLATFORM_ADMIN_EMAIL": self._ADMIN,
            "JWT_SECRET_KEY": self._secret,
            "DATABASE_URL": f"sqlite:///{self.dir / 'mcp.db'}",
            "CACHE_TYPE": "memory",
            "LOG_LEVEL": "ERROR",
            "RATE_LIMITING_ENABLED": "false",
            "TOOL_RATE_LIMIT": "1000000",
            "SSRF_ALLOW_LOCALHOST": "true",
            "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
            **self.settings,
        }


_OFF = (
    "STRUCTURED_LOGGING_DATABASE_ENABLED",
    "AUDIT_TRAIL_ENABLED",
    "SECURITY_LOGGING_ENABLED",
    "COMPRESSION_ENABLED",
    "CORRELATION_ID_ENABLED",
    "OBSERVABILITY_ENABLED",
    "PLUGINS_ENABLED",
    "DB_METRICS_RECORDING_ENABLED",
    "ENABLE_METRICS",
    "MCPGATEWAY_UI_ENABLED",
)
_LONGEST = (
    "AUTH_CACHE_USER_TTL",
    "AUTH_CACHE_TEAM_TTL",
    "AUTH_CACHE_ROLE_TTL",
    "AUTH_CACHE_TEAMS_TTL",
    "REGISTRY_CACHE_TOOLS_TTL",
    "REGISTRY_CACHE_SERVERS_TTL",
    "REGISTRY_CACHE_GATEWAYS_TTL",
    "HEALTH_CHECK_INTERVAL",
)


class TunedContextForge(ContextForge):
    """The same with the switches that its own compose file sets for speed: sessions that keep their upstream sessions,
    caches as long as they may be, and access log, audit, metrics, plugins and observability off.
    """

    name = "contextforge-tuned"
    not_offered = MappingProxyType({"progress": _RESULT_ALONE})
    settings = MappingProxyType(
        {
            **dict.fromkeys(_OFF, "false"),
            **dict.fromkeys(_LONGEST, "300"),
            "AUTH_CACHE_REVOCATION_TTL": "120",
            "AUTH_CACHE_ENABLED": "true",
            "USE_STATEFUL_SESSIONS": "true",
            "MCP_SESSION_POOL_ENABLED": "true",
            "HTTPX_MAX_CONNECTIONS": "500",
            "HTTPX_MAX_KEEPALIVE_CONNECTIONS": "300",
            "DISABLE_ACCESS_LOG": "true",
            "MCPGATEWAY_ADMIN_API_ENABLED": "true",
        }
    )

    def command(self) -> list[str]:
        return [*super().command(), "--no-access-log"]
