"""One error body, for every kind of error, under every prefix."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel
from sqlalchemy import event, select
from structlog.testing import capture_logs

from gateway.api.shared.route import Caller, Front, Session, public, requires
from registry.core.db import new_id
from registry.core.errors import Conflict, Forbidden, GatehouseError, Invalid, NotFound, Unauthenticated, Unavailable
from registry.identity.models import Organization
from tests.gateway.api.support import Facade, client_of
from tests.support.identity import Person

PREFIXES = ["/v1", "/api", "/api/v1", "/elsewhere"]
KINDS: dict[str, tuple[Exception, int, str]] = {
    "unauthenticated": (Unauthenticated("Log in."), 401, "AUTHENTICATION_REQUIRED"),
    "forbidden": (Forbidden("Not you."), 403, "INSUFFICIENT_PERMISSIONS"),
    "unknown": (NotFound("Nothing there."), 404, "RESOURCE_NOT_FOUND"),
    "conflict": (Conflict("Already there."), 409, "RESOURCE_CONFLICT"),
    "unavailable": (Unavailable("Set something."), 503, "SERVICE_UNAVAILABLE"),
    "teapot": (HTTPException(418, "Short and stout."), 418, "ERROR"),
    "own": (GatehouseError("canary"), 500, "INTERNAL_ERROR"),
    "unexpected": (RuntimeError("canary"), 500, "INTERNAL_SERVER_ERROR"),
}


class Body(BaseModel):
    number: int


def failing(front: Front) -> Iterable[APIRouter]:
    api = front.router(tags=["failing"])
    for prefix in PREFIXES:

        @api.get(prefix + "/fail/{kind}")
        @public
        async def fail(kind: str) -> None:
            raise KINDS[kind][0]

        @api.post(prefix + "/invalid")
        @public
        async def invalid(body: Body, wanted: Annotated[int, Query()] = 0) -> None:
            raise Invalid("Too small.", field="body.number")

        @api.get(prefix + "/closed")
        async def closed(caller: Caller) -> str:
            return caller.role

        @api.get(prefix + "/manage", dependencies=[requires("users:manage")])
        async def manage() -> None:
            return None

    @api.post("/v1/half-done")
    async def half_done(session: Session, caller: Caller) -> None:
        await _add(session, "half")
        raise NotFound("Half done.")

    @api.post("/v1/done")
    async def done(session: Session, caller: Caller) -> None:
        await _add(session, "done")

    @api.post("/v1/lost", status_code=201)
    async def lost(session: Session, caller: Caller) -> None:
        await _add(session, "lost")

        def fail(_session: object) -> None:
            raise RuntimeError("the disk is full")

        event.listen(session.sync_session, "before_commit", fail)

    @api.get("/v1/forgotten")
    async def forgotten() -> str:
        return "no dependency asks for the caller, and yet"

    return [api]


async def _add(session: Session, slug: str) -> None:
    now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    session.add(Organization(id=new_id(), name=slug, slug=slug, created_at=now, updated_at=now))
    await session.flush()


def check_form(body: dict[str, Any], status: int, code: str, request_id: str) -> None:
    assert body.keys() >= {"type", "title", "status", "detail", "request_id", "error"}
    assert body["error"].keys() == {"code", "message", "details", "request_id", "timestamp"}
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["request_id"] == body["error"]["request_id"] == request_id
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["title"]
    assert datetime.fromisoformat(body["error"]["timestamp"]).tzinfo is not None


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_every_kind_has_the_body(facade: Facade, prefix: str) -> None:
    async with client_of(facade.build(failing), **{"X-Request-ID": "req-42"}) as client:
        for kind, (error, status, code) in KINDS.items():
            with capture_logs() as logs:
                answer = await client.get(f"{prefix}/fail/{kind}")
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
            check_form(answer.json(), status, code, "req-42")
            assert answer.headers["x-request-id"] == "req-42"
            if status == 500:
                assert "canary" not in answer.text
                assert logs
            else:
                assert answer.json()["detail"] == answer.json()["error"]["message"]
                assert str(getattr(error, "detail", error)) in answer.text
            assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(("prefix", "status"), [("/v1", 422), ("/api", 400), ("/api/v1", 400), ("/elsewhere", 422)])
async def test_validation_errors_are_listed_in_both_forms(facade: Facade, prefix: str, status: int) -> None:
    async with client_of(facade.build(failing)) as client:
        answer = await client.post(f"{prefix}/invalid", params={"wanted": "x"}, json={"number": "canary"})
        assert answer.status_code == status
        check_form(answer.json(), status, "VALIDATION_ERROR", answer.headers["x-request-id"])
        assert [entry["loc"] for entry in answer.json()["detail"]] == [["query", "wanted"], ["body", "number"]]
        assert all(entry.keys() == {"loc", "msg", "type"} for entry in answer.json()["detail"])
        assert [entry["field"] for entry in answer.json()["error"]["details"]] == ["wanted", "number"]
        assert "canary" not in answer.text
        own = await client.post(f"{prefix}/invalid", json={"number": 1})
        assert own.status_code == status
        assert own.json()["detail"] == [{"loc": ["body", "body", "number"], "msg": "Too small.", "type": "value_error"}]
        assert own.json()["error"]["details"] == [{"field": "body.number", "message": "Too small."}]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_no_route_and_no_method(facade: Facade, prefix: str) -> None:
    async with client_of(facade.build(failing)) as client:
        answer = await client.get(f"{prefix}/nowhere")
        check_form(answer.json(), 404, "RESOURCE_NOT_FOUND", answer.headers["x-request-id"])
        answer = await client.put(f"{prefix}/invalid")
        check_form(answer.json(), 405, "METHOD_NOT_ALLOWED", answer.headers["x-request-id"])
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_without_a_credential_nothing_opens(facade: Facade, member: Person, prefix: str) -> None:
    app = facade.build(failing)
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer mcp_aaaaaaaa_" + "x" * 43},
        {"X-API-Key": "x"},
        {"X-Session-ID": "x"},
        {"Cookie": "gatehouse_session=x"},
        {"Authorization": f"Bearer {await facade.key_of(member)}", "X-API-Key": await facade.key_of(member)},
    ]
    for headers in wrong:
        async with client_of(app) as client:
            for path in ("/closed", "/manage"):
                answer = await client.get(prefix + path, headers=headers)
                assert answer.status_code == 401
                check_form(answer.json(), 401, "AUTHENTICATION_REQUIRED", answer.headers["x-request-id"])
                assert answer.headers["www-authenticate"].startswith('Bearer realm="gatehouse"')
            assert ("invalid_token" in answer.headers["www-authenticate"]) == bool(headers)


async def test_a_route_is_closed_even_if_nothing_asks_for_the_caller(facade: Facade) -> None:
    async with client_of(facade.build(failing)) as client:
        assert (await client.get("/v1/forgotten")).status_code == 401


async def test_a_missing_permission_is_named_before_the_body_is_judged(facade: Facade, member: Person) -> None:
    async with client_of(facade.build(failing), await facade.key_of(member)) as client:
        answer = await client.get("/v1/manage")
        check_form(answer.json(), 403, "INSUFFICIENT_PERMISSIONS", answer.headers["x-request-id"])
        assert answer.json()["error"]["details"] == {"permission": "users:manage"}


async def test_nothing_is_acknowledged_that_could_not_be_committed(facade: Facade, member: Person) -> None:
    async with client_of(facade.build(failing), await facade.key_of(member)) as client:
        assert (await client.post("/v1/lost")).status_code == 500
    async with facade.database.reading() as session:
        assert set(await session.scalars(select(Organization.slug))) == {"acme"}


async def test_a_request_that_fails_is_rolled_back_and_one_that_answers_is_committed(
    facade: Facade, member: Person
) -> None:
    async with client_of(facade.build(failing), await facade.key_of(member)) as client:
        assert (await client.post("/v1/half-done")).status_code == 404
        assert (await client.post("/v1/done")).status_code == 200
    async with facade.database.reading() as session:
        slugs = set(await session.scalars(select(Organization.slug)))
    assert slugs == {"acme", "done"}
