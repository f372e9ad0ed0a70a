"""The way out: a container without a network reaches the hosts that it may, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.workspace_runtime.conftest import Bench
from workspace_runtime.keeper import Keeper
from workspace_runtime.runtime import Network
from workspace_runtime.tunnel import Attempt, DialRefused, HostRules, InvalidHost, Tunnel

GET = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"
CONNECT = (
    "import http.client as c, sys\n"
    "line = c.HTTPConnection('127.0.0.1', 3128, timeout=60)\n"
    "line.set_tunnel(sys.argv[1], int(sys.argv[2]))\n"
    "line.request('GET', '/x')\n"
    "print(line.getresponse().read().decode())"
)


class Outside:
    """A server on the loopback that stands for the hosts of the world."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.attempts: list[Attempt] = []
        self._port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.splitlines()[0])
        body = b"x" * 300_000
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host == "private.example.org":
            raise DialRefused("its address is private")
        if host == "down.example.org":
            raise ConnectionRefusedError(111, "Connection refused")
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        return server


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made = Outside()
    async with await made.start():
        yield made


async def ignore(finding: object) -> None:
    return


async def test_allowed_hosts_are_reached_and_no_others(docker: Bench, outside: Outside) -> None:
    container = await docker.start(
        network=Network.ALLOWLIST, hosts=["example.org", "*.example.org:80", "git.test:8443"]
    )
    keeper = Keeper(docker.runtime, Tunnel(docker.runtime, outside.dial, outside.attempts.append), ignore)
    keeper.keep(container)
    keeper.keep(container)
    assert keeper.kept() == {container.id}
    try:
        code, said = await docker.run(container, "python3", "-c", GET, "http://example.org/path?q=1")
        assert (code, said.strip()) == (0, "x" * 300_000)
        assert outside.asked == ["GET /path?q=1 HTTP/1.1"]
        code, said = await docker.run(container, "python3", "-c", CONNECT, "git.test", "8443")
        assert (code, said.strip()) == (0, "x" * 300_000)
        for url, why in {
            "http://example.com/": "not among the hosts",
            "http://169.254.169.254/latest": "not among the hosts",
            "http://private.example.org/": "its address is private",
            "http://down.example.org/": "Connection refused",
        }.items():
            code, said = await docker.run(container, "python3", "-c", GET, url)
            assert code == 1, url
            assert "403" in said
            assert why in outside.attempts[-1].refused
        code, _ = await docker.run(container, "python3", "-c", CONNECT, "example.org", "22")
        assert code == 1
        assert outside.attempts[-1] == Attempt(container.id, "example.org", 22, outside.attempts[-1].refused)
        many = [docker.run(container, "python3", "-c", GET, "http://example.org/") for _ in range(4)]
        assert {code for code, _ in await asyncio.gather(*many)} == {0}
    finally:
        await keeper.close()
    assert keeper.kept() == set()


async def test_a_container_without_a_policy_has_no_way_out(docker: Bench, outside: Outside) -> None:
    container = await docker.start()
    keeper = Keeper(docker.runtime, Tunnel(docker.runtime, outside.dial), ignore)
    keeper.keep(container)
    code, said = await docker.run(container, "python3", "-c", CONNECT, "example.org", "443")
    await keeper.close()
    assert code == 1
    assert "refused" in said
    assert outside.asked == []


async def test_keeping_ends_with_the_container(docker: Bench, outside: Outside) -> None:
    container = await docker.start(network=Network.OPEN)
    keeper = Keeper(docker.runtime, Tunnel(docker.runtime, outside.dial), ignore)
    keeper.keep(container)
    code, _ = await docker.run(container, "python3", "-c", GET, "http://any.test/")
    assert code == 0
    await docker.runtime.stop(container.id)
    async with asyncio.timeout(60):
        while keeper.kept():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("hosts", "host", "port", "allowed"),
    [
        (["example.org"], "example.org", 443, True),
        (["example.org"], "EXAMPLE.org.", 80, True),
        (["example.org"], "example.org", 22, False),
        (["example.org"], "www.example.org", 443, False),
        (["*.example.org"], "www.example.org", 443, True),
        (["*.example.org"], "a.b.example.org", 443, True),
        (["*.example.org"], "example.org", 443, False),
        (["*.example.org"], "evilexample.org", 443, False),
        (["example.org:8443"], "example.org", 8443, True),
        (["example.org:8443"], "example.org", 443, False),
        (["[::1]:80"], "::1", 80, True),
        ([], "example.org", 443, False),
    ],
)
def test_rules(hosts: list[str], host: str, port: int, allowed: bool) -> None:
    assert HostRules(Network.ALLOWLIST, hosts).allows(host, port) is allowed
    assert HostRules(Network.NONE, hosts).allows(host, port) is False
    assert HostRules(Network.OPEN).allows(host, port) is True


@pytest.mark.parametrize("host", ["", "*", "*.*.org", "http://example.org", "a b", "example.org:x", "-a", "a,b"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidHost):
        HostRules(Network.ALLOWLIST, [host])
