"""Connections, with real listeners on loopback: what is refused reaches nobody, what is allowed keeps its name."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import dnslib
import dnslib.server
import pytest
import trustme

from registry.core.egress import (
    Egress,
    EgressPolicy,
    EgressRefused,
    EgressTimeout,
    EgressUnreachable,
    Lookup,
    Resolver,
    UrlInvalid,
    parse_allow,
    vet_url,
)
from tests.registry.core.test_egress_target import LOOPBACK_SPELLINGS
from tests.support.canary import Canary, canary, http_answer

# What a lookup answers where an honest name would be; no test connects to it.
PUBLIC = "8.8.8.8"


def answers(*rounds: list[str]) -> tuple[Lookup, list[str]]:
    """A lookup that gives one list of addresses after the other (the last for ever), and the names it was asked for."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return rounds[min(len(asked), len(rounds)) - 1]

    return lookup, asked


class Line(asyncio.Protocol):
    """Remembers whether it was connected."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


@pytest.fixture
async def lure() -> AsyncIterator[Canary]:
    async with canary() as listener:
        yield listener


@pytest.fixture(params=["connect", "client"])
def reach(request: pytest.FixtureRequest) -> Callable[[Egress, str], object]:
    """Both ways out, so that every attack is made on both."""

    async def connect(egress: Egress, url: str) -> str:
        transport, _ = await egress.connect(Line, vet_url(url), timeout=5)
        transport.close()
        return "connected"

    async def client(egress: Egress, url: str) -> str:
        try:
            return (await egress.client.request("GET", url, timeout=5)).text()
        finally:
            await egress.close()

    return connect if request.param == "connect" else client


@pytest.mark.parametrize(
    "spelling", [*LOOPBACK_SPELLINGS, "localhost", "LOCALHOST.", "0.0.0.0", "0", "[::]", "[::1]", "[::ffff:0:0]"]
)
async def test_no_spelling_of_loopback_reaches_the_canary(spelling: str, reach: Callable[..., object]) -> None:
    async with canary(host="::1" if spelling in ("[::1]", "[::]") else "127.0.0.1") as lure:
        with pytest.raises(EgressRefused):
            await reach(Egress(EgressPolicy()), f"http://{spelling}:{lure.port}/")
        assert await lure.hits() == 0


async def test_the_canary_does_see_what_is_allowed(lure: Canary, reach: Callable[..., object]) -> None:
    assert await reach(Egress(EgressPolicy(local_mode=True)), lure.url)
    assert await lure.hits() == 1


async def test_an_entry_with_a_port_leaves_other_ports_closed(lure: Canary, reach: Callable[..., object]) -> None:
    async with canary() as other:
        egress = Egress(EgressPolicy(parse_allow(f"127.0.0.1:{lure.port}"), local_mode=True))
        await reach(egress, lure.url)
        with pytest.raises(EgressRefused):
            await reach(egress, other.url)
        assert (await lure.hits(), await other.hits()) == (1, 0)


async def test_one_bad_address_spoils_the_name(lure: Canary, reach: Callable[..., object]) -> None:
    for mixed in ([PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::ffff:127.0.0.1"], [PUBLIC, "fe80::1%lo"]):
        lookup, asked = answers(mixed)
        with pytest.raises(EgressRefused):
            await reach(Egress(EgressPolicy(), lookup=lookup), f"http://mixed.example:{lure.port}/")
        assert asked == ["mixed.example"]
    assert await lure.hits() == 0


async def test_a_name_is_resolved_once_and_that_answer_is_connected_to(
    lure: Canary, reach: Callable[..., object]
) -> None:
    lookup, asked = answers(["127.0.0.1"], ["127.0.0.2"])
    egress = Egress(EgressPolicy(parse_allow("127.0.0.1")), lookup=lookup)
    await reach(egress, f"http://once.example:{lure.port}/")
    assert asked == ["once.example"]
    with pytest.raises(EgressRefused):
        await reach(egress, f"http://once.example:{lure.port}/")
    assert await lure.hits() == 1


async def test_rebinding_is_seen_at_the_next_connection(lure: Canary, reach: Callable[..., object]) -> None:
    """A name that was public when it was registered and is loopback when it is used."""
    lookup, _ = answers([PUBLIC], ["127.0.0.1"])
    egress = Egress(EgressPolicy(), lookup=lookup)
    url = f"http://rebound.example:{lure.port}/"
    assert await egress.resolve(vet_url(url)) == (PUBLIC,)
    with pytest.raises(EgressRefused, match=r"rebound\.example"):
        await reach(egress, url)
    assert await lure.hits() == 0


async def test_the_client_asks_again_for_every_new_connection() -> None:
    lookup, asked = answers(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
    egress = Egress(EgressPolicy(parse_allow("127.0.0.1")), lookup=lookup)
    async with canary(
        lambda request: http_answer(connection="keep-alive" if b"/keep" in request else "close")
    ) as server:
        url = f"http://again.example:{server.port}/"
        for path in ("", "keep", "keep"):
            await egress.client.request("GET", url + path)
        assert len(asked) == 2
        await egress.client.request("GET", url)
        with pytest.raises(EgressRefused):
            await egress.client.request("GET", url)
        await egress.close()


class Rebinder(dnslib.server.BaseResolver):
    """A name server that answers the first question publicly and all later ones with loopback."""

    def __init__(self) -> None:
        self.asked = 0

    def resolve(self, request: dnslib.DNSRecord, handler: object) -> dnslib.DNSRecord:
        self.asked += 1
        reply = request.reply()
        address = PUBLIC if self.asked == 1 else "127.0.0.1"
        reply.add_answer(dnslib.RR(request.q.qname, dnslib.QTYPE.A, rdata=dnslib.A(address), ttl=0))
        return reply


@pytest.fixture
def rebinder() -> Iterator[tuple[Rebinder, int]]:
    resolver = Rebinder()
    quiet = dnslib.server.DNSLogger(log="-request,-reply,-truncated,-error,-recv,-send,-data", prefix=False)
    server = dnslib.server.DNSServer(resolver, address="127.0.0.1", port=0, logger=quiet)
    server.start_thread()
    try:
        yield resolver, server.server.server_address[1]
    finally:
        server.stop()
        server.server.server_close()
        server.thread.join(10)


async def test_rebinding_over_a_real_name_server(
    lure: Canary, rebinder: tuple[Rebinder, int], reach: Callable[..., object]
) -> None:
    server, port = rebinder

    async def over_the_wire(host: str, _: int) -> list[str]:
        question = dnslib.DNSRecord.question(host)
        reply = await asyncio.to_thread(question.send, "127.0.0.1", port, timeout=5)
        return [str(record.rdata) for record in dnslib.DNSRecord.parse(reply).rr]

    egress = Egress(EgressPolicy(), lookup=over_the_wire)
    url = f"http://rebound.example:{lure.port}/"
    assert await egress.resolve(vet_url(url)) == (PUBLIC,)
    with pytest.raises(EgressRefused):
        await reach(egress, url)
    assert server.asked == 2
    assert await lure.hits() == 0


async def test_exempt_hosts_are_reached_by_their_name_only(lure: Canary, reach: Callable[..., object]) -> None:
    lookup, _ = answers(["127.0.0.1"])
    egress = Egress(EgressPolicy(exempt=[("idp.corp", lure.port)]), lookup=lookup)
    await reach(egress, f"http://IDP.corp:{lure.port}/")
    with pytest.raises(EgressRefused):
        await reach(egress, f"http://other.corp:{lure.port}/")
    with pytest.raises(EgressRefused):
        await reach(egress, lure.url)
    assert await lure.hits() == 1


async def test_names_that_cannot_be_resolved_say_so(reach: Callable[..., object]) -> None:
    async def broken(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    empty, _ = answers([])
    for lookup in (broken, empty):
        with pytest.raises(EgressUnreachable, match=r"nowhere\.example"):
            await reach(Egress(EgressPolicy(), lookup=lookup), "http://nowhere.example/")


async def test_a_refused_connection_is_unreachable_without_naming_the_address(reach: Callable[..., object]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connecting is refused
        lookup, _ = answers(["127.0.0.1"])
        egress = Egress(EgressPolicy(local_mode=True), lookup=lookup)
        with pytest.raises(EgressUnreachable, match=r"down\.example") as caught:
            await reach(egress, f"http://down.example:{taken.getsockname()[1]}/")
        assert "127.0.0.1" not in caught.value.message


async def test_the_resolver_reads_hosts_itself() -> None:
    resolver = Resolver(EgressPolicy(local_mode=True), answers([PUBLIC, PUBLIC, "::ffff:8.8.4.4"])[0])
    assert await resolver.resolve("0x7f000001", 80) == ("127.0.0.1",)
    assert await resolver.resolve("Name.Example.", 80) == (PUBLIC, "8.8.4.4")
    with pytest.raises(UrlInvalid):
        await resolver.resolve("not a host", 80)


async def test_connect_tries_the_next_address(lure: Canary) -> None:
    lookup, _ = answers(["127.0.0.2", "127.0.0.1"])  # the canary listens on the second one only
    egress = Egress(EgressPolicy(local_mode=True), lookup=lookup)
    transport, line = await egress.connect(Line, vet_url(f"http://two.example:{lure.port}/"), timeout=5)
    assert transport.get_extra_info("peername")[0] == "127.0.0.1"
    assert line.transport is transport
    transport.close()
    assert await lure.hits() == 1


async def test_connect_gives_up_in_time() -> None:
    """A listener that accepts and never shakes hands."""
    async with canary() as silent:
        egress = Egress(EgressPolicy(local_mode=True), tls=ssl.create_default_context)
        with pytest.raises(EgressTimeout):
            await egress.connect(Line, vet_url(f"https://127.0.0.1:{silent.port}/"), timeout=0.05)


async def test_resolving_counts_against_the_time() -> None:
    async def stuck(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(EgressTimeout):
        await Egress(EgressPolicy(), lookup=stuck).connect(Line, vet_url("http://stuck.example/"), timeout=0.01)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> tuple[ssl.SSLContext, list[str | None]]:
    """A server's context for these names, and the names that clients ask for by SNI."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)  # type: ignore[assignment]
    return context, asked


def trusting(authority: trustme.CA) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    return make


async def test_tls_keeps_the_name_while_the_address_is_connected_to(
    authority: trustme.CA, reach: Callable[..., object]
) -> None:
    context, asked = server_context(authority, "secure.example")
    lookup, _ = answers(["127.0.0.1"])
    async with canary(http_answer(body=b"safe"), tls=context) as server:
        egress = Egress(EgressPolicy(local_mode=True), lookup=lookup, tls=trusting(authority))
        assert await reach(egress, f"https://secure.example:{server.port}/")
        assert asked == ["secure.example"]


async def test_a_certificate_for_another_name_is_not_accepted(
    authority: trustme.CA, reach: Callable[..., object]
) -> None:
    context, _ = server_context(authority, "other.example", "127.0.0.1")
    lookup, _ = answers(["127.0.0.1"])
    async with canary(tls=context) as server:
        egress = Egress(EgressPolicy(local_mode=True), lookup=lookup, tls=trusting(authority))
        with pytest.raises(EgressUnreachable, match="certificate"):
            await reach(egress, f"https://secure.example:{server.port}/")
        await reach(egress, f"https://127.0.0.1:{server.port}/")
        assert len(server.requests) <= 1


async def test_an_unknown_authority_is_not_accepted(authority: trustme.CA, reach: Callable[..., object]) -> None:
    context, _ = server_context(authority, "127.0.0.1")
    async with canary(tls=context) as server:
        with pytest.raises(EgressUnreachable, match="certificate"):
            await reach(Egress(EgressPolicy(local_mode=True)), server.url)
        assert server.requests == []
