"""What every request passes: the guard, the size cap, the request id, and strict JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from fastapi import APIRouter

from gateway.api.shared.client import ClientAddress
from gateway.api.shared.hosts import HostPolicy
from gateway.api.shared.middleware import SECURITY_HEADERS
from gateway.api.shared.route import Front, public
from tests.gateway.api.support import Facade, client_of
from tests.support.attacks import attack
from tests.support.identity import PASSWORD, Person


def echoing(front: Front) -> Iterable[APIRouter]:
    api = front.router(tags=["echo"])

    @api.post("/v1/echo")
    @public
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    return [api]


async def _post(facade: Facade, content: bytes, kind: str = "application/json") -> Any:
    async with client_of(facade.build(echoing)) as client:
        return await client.post("/v1/echo", content=content, headers={"Content-Type": kind})


ABUSE: dict[str, bytes] = {
    "not json": b"{",
    "empty value": b'{"a":}',
    "not utf-8": b'{"a": "\xff"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "large float": b'{"a": 1e999}',
    "duplicate key": b'{"a": 1, "a": 2}',
    "inner duplicate key": b'{"b": [{"a": 1, "a": 2}]}',
    "escaped duplicate key": b'{"a": 1, "\\u0061": 2}',
    "5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "65 bits": b'{"a": 36893488147419103232}',
    "minus 65 bits": b'{"a": -36893488147419103232}',
    "65 levels": b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}",
    "200,000 levels": b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "200,000 open levels": b"[" * 200_000,
    "half surrogate": b'{"a": "\\ud800"}',
    "half surrogate in a key": b'{"\\udfff": 1}',
    "NUL": b'{"a": ["\\u0000"]}',
    "raw control character": b'{"a": "\x00"}',
    "trailing text": b'{"a": 1} {"b": 2}',
    "comment": b'{"a": 1} // x',
}


@pytest.mark.parametrize("name", ABUSE)
@pytest.mark.parametrize("kind", ["application/json", "application/merge-patch+json; charset=utf-8"])
async def test_abusive_json_is_a_bad_request(facade: Facade, name: str, kind: str) -> None:
    answer = await _post(facade, ABUSE[name], kind)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_ordinary_json_passes_unchanged(facade: Facade) -> None:
    deep: Any = 1
    for _ in range(62):
        deep = [deep]
    body = {"a": [1, -1.5, 2**63 - 1, -(2**63) + 1, True, None, "ä😀\n", {"b": {}}], "deep": deep, "\u2028": ""}
    async with client_of(facade.build(echoing)) as client:
        assert (await client.post("/v1/echo", json=body)).json() == body
        escaped = await client.post(
            "/v1/echo", content=b'{"a": "\\ud83d\\ude00"}', headers={"Content-Type": "application/json"}
        )
        assert escaped.json() == {"a": "😀"}


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_a_body_of_another_kind_is_no_json(facade: Facade, kind: str) -> None:
    assert (await _post(facade, b'{"a": 1}', kind)).status_code == 422


async def test_abuse_never_breaks_a_real_route(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        for content in ABUSE.values():
            for path in ("/v1/auth/login", "/v1/auth/permissions/check", "/v1/api-keys"):
                answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})
                assert 400 <= answer.status_code < 500
        odd: list[Any] = [
            [],
            "x",
            1,
            None,
            {"name": "x" * 10_000},
            {"name": ["x"]},
            {"name": "x", "expires_at": 10**18},
        ]
        odd += [
            {"name": "x", "expires_at": "2030-01-01T00:00:00"},
            {"name": "x", "user_id": "x"},
            {"name": "x", "tools": [1]},
        ]
        for body in odd:
            answer = await client.post("/v1/api-keys", json=body)
            assert 400 <= answer.status_code < 500


async def test_a_large_body_is_refused_before_it_is_read(facade: Facade) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b"x" * 1024

    app = facade.build(echoing, max_body_bytes=4096)
    async with client_of(app) as client:
        declared = await client.post("/v1/echo", content=b"x" * 5000)
        streamed = await client.post("/v1/echo", content=body())
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert sent <= 2 * 4096


async def test_request_ids_are_echoed_if_they_are_harmless(facade: Facade) -> None:
    async with client_of(facade.build()) as client:
        for good in ("req-123-456-789", "a", "x" * 128, "550e8400-e29b-41d4-a716-446655440000"):
            answer = await client.get("/v1/nowhere", headers={"X-Request-ID": good})
            assert answer.headers["x-request-id"] == good == answer.json()["request_id"]
        made = set[str]()
        for bad in ("", "x" * 129, "a b", "a\tb", "ä".encode(), '"<script>'):
            answer = await client.get("/v1/nowhere", headers={"X-Request-ID": bad})
            made.add(answer.headers["x-request-id"])
            assert answer.headers["x-request-id"].startswith("req-")
        assert len(made) == 6


async def test_security_headers_are_on_every_answer(facade: Facade, admin: Person) -> None:
    app = facade.build(public_url="https://gate.example")
    async with client_of(app, await facade.key_of(admin)) as client:
        answers = [
            await client.get("/v1/organizations"),
            await client.get("/v1/nowhere"),
            await client.post("/v1/auth/login", json={}),
            await client.get("/v1/organizations", headers={"Host": "evil.example"}),
        ]
        assert [answer.status_code for answer in answers] == [200, 404, 422, 403]
        for answer in answers:
            assert SECURITY_HEADERS.items() <= dict(answer.headers).items()
            assert "max-age" in answer.headers["strict-transport-security"]


@attack(12)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost:8000@evil.example"},
        {"Host": "a/?x="},
        {"Host": "127.0.0.1:8000/"},
        {"Host": "10.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "file://"},
        {"Origin": "http://user@127.0.0.1"},
    ],
)
async def test_foreign_hosts_and_origins_are_refused(facade: Facade, headers: dict[str, str]) -> None:
    async with client_of(facade.build()) as client:
        for method, path in (("GET", "/v1/organizations"), ("POST", "/v1/auth/login"), ("OPTIONS", "/v1/api-keys")):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


def test_the_host_policy_knows_its_names() -> None:
    policy = HostPolicy("127.0.0.1", "https://gate.example:8443/x", ["intern.example", "other.example:9000"])
    for host in (
        b"127.0.0.1",
        b"LOCALHOST:1",
        b"[::1]:8000",
        b"gate.example",
        b"gate.example:8443",
        b"intern.example:5",
    ):
        assert policy.admits_host(host)
        assert policy.admits_host(host)
    assert policy.admits_host(b"other.example:9000")
    for host in (
        b"other.example",
        b"",
        b"[::1",
        b"[::1]x",
        b"localhost:",
        b"localhost:x",
        b"a b",
        b"192.168.0.1",
        b"\xff",
    ):
        assert not policy.admits_host(host)
    everywhere = HostPolicy("0.0.0.0")
    assert everywhere.admits_host(b"192.168.0.1:8000")
    assert everywhere.admits_host(b"[fd00::1]:8000")
    assert not everywhere.admits_host(b"name.example")
    assert not everywhere.admits_host(b"")
    assert everywhere.admits_origin(b"http://192.168.0.1:8000", b"192.168.0.1:8000")
    assert not everywhere.admits_origin(b"http://192.168.0.2:8000", b"192.168.0.1:8000")
    assert HostPolicy("127.0.0.1", None, ["*"]).admits_host(b"any.example")


def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    def scope(peer: str, *forwarded: bytes) -> dict[str, Any]:
        return {"client": (peer, 1), "headers": [(b"x-forwarded-for", value) for value in forwarded]}

    plain, proxied = ClientAddress(), ClientAddress(["10.0.0.0/8", "127.0.0.1"])
    assert plain.of(scope("127.0.0.1", b"1.2.3.4")) == "127.0.0.1"
    assert proxied.of(scope("9.9.9.9", b"1.2.3.4")) == "9.9.9.9"
    assert proxied.of(scope("127.0.0.1", b"1.2.3.4")) == "1.2.3.4"
    assert proxied.of(scope("127.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.7")) == "1.2.3.4"
    assert proxied.of(scope("127.0.0.1", b"6.6.6.6", b"1.2.3.4")) == "1.2.3.4"
    assert proxied.of(scope("127.0.0.1", b"1.2.3.4, nonsense, 10.0.0.7")) == "10.0.0.7"
    assert proxied.of(scope("127.0.0.1")) == "127.0.0.1"
    with pytest.raises(ValueError, match="nonsense"):
        ClientAddress(["nonsense"])


async def test_a_nul_in_the_address_is_refused(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        for path in ("/v1/organizations/%00", "/v1/api-keys?limit=%00"):
            assert (await client.get(path)).status_code == 400


async def test_the_description_and_its_pages(facade: Facade) -> None:
    async with client_of(facade.build()) as client:
        description = (await client.get("/api/v1/openapi.json")).json()
        assert {"/v1/auth/login", "/v1/organizations/{org_id}", "/v1/api-keys/{key_id}"} <= description["paths"].keys()
        assert description["components"]["securitySchemes"].keys() == {"HTTPBearer", "APIKeyHeader"}
        assert "security" not in description["paths"]["/v1/auth/login"]["post"]
        for page in ("/docs", "/redoc"):
            answer = await client.get(page)
            assert answer.status_code == 200
            assert "/api/v1/openapi.json" in answer.text
            assert "jsdelivr" in answer.headers["content-security-policy"]


async def test_ten_logins_a_minute_from_one_address(facade: Facade, admin: Person) -> None:
    app = facade.build(rate_limits="on")
    wrong = {"email": "admin@acme.test", "password": "wrong"}
    async with client_of(app) as client:
        for left in range(9, -1, -1):
            answer = await client.post("/v1/auth/validate", json={"session_id": "x"})
            assert answer.headers["x-ratelimit-limit"] == "10"
            assert answer.headers["x-ratelimit-remaining"] == str(left)
            assert answer.headers["x-ratelimit-reset"].isdigit()
        for number in range(5):
            answer = await client.post("/v1/auth/login", json=wrong, headers={"X-Forwarded-For": f"1.2.3.{number}"})
            assert answer.status_code == 429
            assert answer.json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"
            assert 1 <= answer.json()["retry_after"] <= 60
            assert answer.headers["retry-after"] == str(answer.json()["retry_after"])
            assert answer.headers["x-ratelimit-remaining"] == "0"
        assert "x-ratelimit-limit" not in (await client.get("/v1/nowhere")).headers
    async with client_of(app, address="10.9.8.7") as other:
        assert (await other.post("/v1/auth/login", json={"email": "admin@acme.test", "password": PASSWORD})).is_success


async def test_limits_can_be_turned_off(facade: Facade) -> None:
    async with client_of(facade.build(rate_limits="off")) as client:
        answers = [await client.post("/v1/auth/validate", json={"session_id": "x"}) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[0].headers
