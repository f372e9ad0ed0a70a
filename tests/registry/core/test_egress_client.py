"""The HTTP client against real listeners: redirects, credentials, headers, limits, bodies."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from registry.core.egress import (
    Egress,
    EgressFailed,
    EgressPolicy,
    EgressRefused,
    EgressTimeout,
    EgressTooLarge,
    HeaderInvalid,
    Resolver,
    UrlInvalid,
    parse_allow,
    vet_url,
)
from registry.core.errors import GatehouseError
from tests.support.canary import canary, http_answer

SECRETS = {
    "Authorization": "Bearer s3cret-bearer",
    "Cookie": "session=s3cret-cookie",
    "X-Api-Key": "s3cret-key",
    "Private-Token": "s3cret-private",
    "X-Vendor-Thing": "s3cret-vendor",
}


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress(EgressPolicy(local_mode=True))
    yield made
    await made.close()


def redirect(status: int, location: str) -> bytes:
    return http_answer(status, b"", location=location)


async def test_a_request_and_its_answer(egress: Egress) -> None:
    async with canary(http_answer(201, b'{"a": [1]}', content_type="application/json", x_a="b")) as server:
        answer = await egress.client.request(
            "post", server.url + "v1?q=%20", headers={"X-Ours": "1"}, json={"k": "ü"}, timeout=5
        )
        assert (answer.status, answer.ok, answer.json(), answer.headers["X-A"]) == (201, True, {"a": [1]}, "b")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1?q=%20 HTTP/1.1\r\n")
        assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in head
        assert b"X-Ours: 1" in head
        assert b"Content-Type: application/json" in head
        assert b"User-Agent: gatehouse" in head
        assert body == b'{"k":"\\u00fc"}'


async def test_bodies_can_be_forms_text_and_bytes(egress: Egress) -> None:
    async with canary() as server:
        await egress.client.request("POST", server.url, data={"grant_type": "code", "x": "a&b"})
        await egress.client.request("PUT", server.url, data="text")
        await egress.client.request("PUT", server.url, data=b"\x00", headers={"content-type": "x/y"})
        form, text, raw = server.requests
        assert form.endswith(b"\r\n\r\ngrant_type=code&x=a%26b")
        assert b"Content-Type: application/x-www-form-urlencoded" in form
        assert b"Content-Type: text/plain; charset=utf-8" in text
        assert b"content-type: x/y" in raw
        assert b"octet-stream" not in raw
        assert await server.hits() == 1  # one kept-alive connection for all


async def test_nothing_comes_from_the_environment(
    egress: Egress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with canary(http_answer(set_cookie="a=b")) as server, canary() as proxy:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for _ in range(2):
            await egress.client.request("GET", server.url)
        assert await proxy.hits() == 0
        assert b"Authorization" not in server.requests[1]
        assert b"Cookie" not in server.requests[1]


async def test_redirects_are_answers_unless_asked_for(egress: Egress) -> None:
    async with canary() as lure, canary(redirect(302, lure.url)) as server:
        answer = await egress.client.request("GET", server.url)
        assert (answer.status, answer.headers["location"]) == (302, lure.url)
        assert await lure.hits() == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_closed_port_reaches_nobody(status: int) -> None:
    async with canary() as lure, canary(redirect(status, lure.url)) as server:
        egress = Egress(EgressPolicy(parse_allow(f"127.0.0.1:{server.port}")))
        with pytest.raises(EgressRefused):
            await egress.client.request("GET", server.url, follow_redirects=5)
        assert await lure.hits() == 0
        await egress.close()


async def test_credentials_do_not_follow_to_another_origin_nor_back(egress: Egress) -> None:
    def first(request: bytes) -> bytes:
        return redirect(307, second.url) if request.startswith(b"GET / ") else http_answer(body=b"end")

    async with canary(first) as server, canary(lambda _: redirect(307, server.url + "back")) as second:
        headers = {**SECRETS, "Accept": "text/special"}
        answer = await egress.client.request(
            "GET", server.url, headers=headers, follow_redirects=3, credentials=["accept"]
        )
        assert (answer.body, answer.url) == (b"end", server.url + "back")
        start, back = server.requests
        assert start.count(b"s3cret") == len(SECRETS)
        assert b"text/special" in start
        for later in (second.requests[0], back):
            assert b"s3cret" not in later
            assert b"text/special" not in later


async def test_credentials_stay_within_their_origin(egress: Egress) -> None:
    async with canary(lambda request: redirect(302, "/next#part") if b"GET / " in request else http_answer()) as server:
        await egress.client.request("GET", server.url, headers=SECRETS, follow_redirects=1)
        assert server.requests[1].startswith(b"GET /next HTTP/1.1")
        assert server.requests[1].count(b"s3cret") == len(SECRETS)


@pytest.mark.parametrize(
    ("status", "method", "body"), [(303, b"GET", b""), (302, b"GET", b""), (307, b"POST", b"form=1")]
)
async def test_methods_and_bodies_after_a_redirect(egress: Egress, status: int, method: bytes, body: bytes) -> None:
    async with canary(lambda request: redirect(status, "/b") if b" / " in request else http_answer()) as server:
        await egress.client.request("POST", server.url, data={"form": "1"}, follow_redirects=1)
        head, _, sent = server.requests[1].partition(b"\r\n\r\n")
        assert (head.split()[0], sent) == (method, body)


async def test_a_body_does_not_follow_to_another_origin(egress: Egress) -> None:
    async with canary() as lure, canary(redirect(307, lure.url)) as server:
        with pytest.raises(EgressRefused, match="body"):
            await egress.client.request("POST", server.url, data={"client_secret": "x"}, follow_redirects=1)
        assert await lure.hits() == 0


async def test_https_is_not_left_for_http() -> None:
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    egress = Egress(EgressPolicy(local_mode=True), tls=lambda: client_side)
    async with canary() as lure, canary(redirect(307, lure.url), tls=server_side) as server:
        with pytest.raises(EgressRefused, match="https to http"):
            await egress.client.request("GET", server.url, follow_redirects=1)
        assert await lure.hits() == 0
        await egress.close()


@pytest.mark.parametrize("location", ["ftp://h/", "http://u:p@h/", "javascript:x", "//[", "http://h:x/", "http://a b/"])
async def test_redirects_to_what_is_no_url_of_ours(egress: Egress, location: str) -> None:
    async with canary(redirect(302, location)) as server:
        with pytest.raises(UrlInvalid):
            await egress.client.request("GET", server.url, follow_redirects=1)


async def test_endless_redirects_end(egress: Egress) -> None:
    async with canary(redirect(302, "/again")) as server:
        with pytest.raises(EgressFailed, match="more than 3 times"):
            await egress.client.request("GET", server.url, follow_redirects=3)
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b\r\nX-Evil: 1"},
        {"X-A": "b\nX-Evil: 1"},
        {"X-A": "b\r"},
        {"X-A": "b\x00"},
        {"X-A": "b\ud800"},
        {"X-A\r\nX-Evil": "1"},
        {"X A": "1"},
        {"": "1"},
        {"Host": "evil"},
        {"content-length": "3"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "X-Secret"},
        {"Proxy-Authorization": "x"},
        {"Upgrade": "h2c"},
    ],
)
async def test_headers_that_smuggle_are_refused_unsent(egress: Egress, headers: dict[str, str]) -> None:
    async with canary() as server:
        with pytest.raises(HeaderInvalid) as caught:
            await egress.client.request("GET", server.url, headers=headers)
        with pytest.raises(HeaderInvalid):
            await egress.client.request("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", server.url)
        assert "Evil" not in caught.value.message
        assert await server.hits() == 0


async def test_a_large_answer_is_cut_off(egress: Egress) -> None:
    async with canary(http_answer(body=b"x" * 5000)) as server:
        with pytest.raises(EgressTooLarge):
            await egress.client.request("GET", server.url, max_bytes=4999)
        assert len((await egress.client.request("GET", server.url, max_bytes=5000)).body) == 5000


async def test_compressed_answers_are_decoded(egress: Egress) -> None:
    async with canary(http_answer(body=gzip.compress(b"plain"), content_encoding="GZIP")) as server:
        answer = await egress.client.request("GET", server.url)
        assert answer.body == b"plain"
        assert "content-encoding" not in answer.headers
        assert "Content-Length" not in answer.headers
        assert b"Accept-Encoding: gzip, deflate\r\n" in server.requests[0]
    async with canary(http_answer(content_encoding="br")) as server:
        with pytest.raises(EgressFailed, match="Content-Encoding"):
            await egress.client.request("GET", server.url)


async def test_head_answers_have_no_body(egress: Egress) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\ncontent-encoding: gzip\r\n\r\n"
    async with canary(head) as server:
        assert (await egress.client.request("HEAD", server.url)).body == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ],
)
async def test_a_broken_answer_is_a_failure(egress: Egress, answer: bytes) -> None:
    async with canary(answer) as server:
        with pytest.raises(EgressFailed):
            await egress.client.request("POST", server.url, data=b"x", timeout=5)


async def test_a_body_that_breaks_off_is_a_failure(egress: Egress) -> None:
    async with (
        canary(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort") as server,
        egress.client.stream("POST", server.url, data=b"x", timeout=5, idle=5) as answer,
    ):
        await server.stop()
        with pytest.raises(EgressFailed):
            await answer.read()


async def test_the_last_lock_holds_without_the_resolver(egress: Egress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a host ever get past the resolver, no socket is made for what no setting allows."""

    async def careless(self: Resolver, host: str, port: int) -> tuple[str, ...]:
        return ("0.0.0.0",)

    monkeypatch.setattr(Resolver, "resolve", careless)
    async with canary() as lure:
        with pytest.raises(GatehouseError):
            await egress.client.request("GET", f"http://careless.example:{lure.port}/", timeout=5)
        assert await lure.hits() == 0


async def test_a_silent_server_times_out(egress: Egress) -> None:
    stuck = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart"
    async with canary(stuck) as server:
        with pytest.raises(EgressTimeout):
            await egress.client.request("GET", server.url, timeout=0.1)
        async with egress.client.stream("GET", server.url, idle=0.1) as answer:
            with pytest.raises(EgressTimeout):
                await answer.read()
    async with canary(b"HTTP/1.1 200") as server:
        with pytest.raises(EgressTimeout):
            async with egress.client.stream("GET", server.url, timeout=0.1):
                pass


async def test_an_error_of_the_reader_stays_its_own(egress: Egress) -> None:
    async with canary() as server:
        with pytest.raises(TimeoutError, match="mine"):
            async with egress.client.stream("GET", server.url):
                raise TimeoutError("mine")


async def test_streams_arrive_piece_by_piece(egress: Egress) -> None:
    body = bytes(range(256)) * 4096
    async with canary(http_answer(body=body)) as server:
        async with egress.client.stream("GET", vet_url(server.url)) as answer:
            pieces = [piece async for piece in answer.chunks()]
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= 65536
        async with egress.client.stream("GET", server.url) as answer:
            assert await anext(answer.chunks())
        await egress.client.request("GET", server.url)
        assert await server.hits() == 2  # a body that was left unread is not reused, a body read to its end is


async def test_answers_that_are_no_json_say_so(egress: Egress) -> None:
    for body in (b"<html>", b"[" * 200_000, b"\xff"):
        async with canary(http_answer(body=body)) as server:
            answer = await egress.client.request("GET", server.url)
            with pytest.raises(EgressFailed, match="JSON"):
                answer.json()


def test_aiohttp_is_imported_by_the_first_request_only() -> None:
    code = (
        "import sys; from registry.core.egress import Egress, EgressPolicy; Egress(EgressPolicy());"
        "sys.exit(any(name in sys.modules for name in ('aiohttp', 'multidict', 'yarl', 'idna')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
