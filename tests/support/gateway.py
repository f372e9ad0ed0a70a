"""A gateway as its users run it: `python -m gateway serve` as a child process on a free loopback port.

Tests reach it over HTTP, over MCP and through its own command line, never by importing it: what they rely on is the
contract of commands, files and addresses alone. `exchange` is the plain HTTP client that they share; it knows no
redirect, no retry and no default header, so that a test says exactly what goes over the wire.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from tests.support.components.machine import CHECKOUT, free_port
from tests.support.servers.process import STOP_SECONDS, Child, plain_environment

ANSWER_SECONDS = 30.0
COMMAND_SECONDS = 60.0

FIRST_RUN = "first-run.txt"
OPERATOR_TOKEN = "operator.token"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The JSON body; of an event stream, the last message."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            lines = [line for line in self.text.splitlines() if line.startswith("data:") and line[5:].strip()]
            return json.loads(lines[-1][5:])
        return json.loads(self.body)


def exchange(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Sequence[bytes] | None = None,
) -> Answer:
    """One HTTP request on its own connection.

    Args:
        url: may hold a query.
        method: as sent.
        headers: `Host` and the body's length are added where they are not given.
        body: parts are sent chunked, without a length.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_SECONDS)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        # A refusal may come before the whole body has gone out; the answer is there to be read all the same.
        with suppress(BrokenPipeError):
            sent = {name: value.encode() for name, value in dict(headers or {}).items()}
            connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err


def run_gatehouse(*args: str, home: Path, **env: str) -> Ran:
    """Run the command line of this checkout to its end, with `env` beside PATH, HOME and LANG.

    Raises:
        subprocess.TimeoutExpired: after `COMMAND_SECONDS`; the command is killed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *args],
        env=plain_environment(home, PYTHONPATH=str(CHECKOUT), **env),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class RunningGateway:
    """A gateway that answers `/readyz`.

    Args:
        data_dir: its data directory; a second gateway started on the same one finds what the first left.
        port: given when a test wants the same address back.
        env: further variables of its environment.
        args: further arguments of `serve`.
    """

    running: ClassVar[list[RunningGateway]] = []
    ended: ClassVar[list[RunningGateway]] = []
    """For the report of a failure, whose reader empties `ended`: one that a failing set-up stopped is in it."""

    def __init__(
        self, data_dir: Path, *, port: int | None = None, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = data_dir.parent / f"{data_dir.name}-home"
        self.home.mkdir(exist_ok=True)
        log = self.home / f"gateway-{len(list(self.home.glob('gateway-*.log')))}.log"
        argv = [sys.executable, "-m", "gateway", "serve", "--port", str(self.port), "--data-dir", str(data_dir)]
        argv += args
        clean = plain_environment(self.home, PYTHONPATH=str(CHECKOUT), PYTHONUNBUFFERED="1", **dict(env or {}))
        self.child = Child("the gateway", argv, log=log, env=clean, cwd=self.home)
        self.child.wait_until(self._ready)
        self.running.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ready(self) -> bool:
        try:
            return exchange(f"{self.url}/readyz").status == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def output(self) -> str:
        """What this start has printed so far, standard error included."""
        return self.child.output()

    def first_run(self) -> dict[str, str]:
        """The names and values of `first-run.txt`."""
        lines = (self.data_dir / FIRST_RUN).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    @property
    def admin_key(self) -> str:
        return self.first_run()["admin_api_key"]

    @property
    def agent_key(self) -> str:
        return self.first_run()["agent_api_key"]

    @property
    def operator_token(self) -> str:
        """Proof of access to the machine, as the command line sends it."""
        return (self.data_dir / OPERATOR_TOKEN).read_text().strip()

    def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A REST call with the admin's key, or with `key`; `body` is sent as JSON."""
        sent = {"Authorization": f"Bearer {key or self.admin_key}", **dict(headers or {})}
        if body is None:
            return exchange(self.url + path, method, headers=sent)
        sent["Content-Type"] = "application/json"
        return exchange(self.url + path, method, headers=sent, body=json.dumps(body).encode())

    def cli(self, *args: str, **env: str) -> Ran:
        """`gatehouse …` as the operator of this machine would run it, with the admin's key."""
        own = {"GATEHOUSE_URL": self.url, "GATEHOUSE_API_KEY": self.admin_key, "GATEHOUSE_DATA_DIR": str(self.data_dir)}
        return run_gatehouse(*args, home=self.home, **{**own, **env})

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, SIGKILL after `seconds`. Returns the exit code."""
        if self in self.running:
            self.running.remove(self)
            self.ended.append(self)
        return self.child.stop(seconds)


def new_key(gateway: RunningGateway, name: str, *, permissions: list[str], tools: list[str] | None = None) -> str:
    """A key made by the admin, narrowed to `permissions` and to the `tools` patterns. Returns the key itself."""
    body: dict[str, Any] = {"name": name, "permissions": permissions}
    if tools is not None:
        body["tools"] = tools
    answer = gateway.rest("POST", "/v1/api-keys", body)
    assert answer.status == 201, answer.text
    return _find_key(answer.json())


def _find_key(document: Any) -> str:
    """The one value that looks like a whole key; `prefix` fields, which are shorter, do not."""
    found: list[str] = []
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, str) and node.startswith("mcp_") and len(node) > 40:
            found.append(node)
    assert len(set(found)) == 1, document
    return found[0]
