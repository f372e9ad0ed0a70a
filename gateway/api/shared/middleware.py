"""What every HTTP request passes before the application, as plain ASGI: request id, guard, size cap, security headers.

Errors that nobody expected end here as an answer with status 500. Knows no routes and no credentials.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.shared.errors import REQUEST_ID, BadRequest, PayloadTooLarge, error_response
from gateway.api.shared.hosts import HostPolicy
from gateway.api.shared.rate_limits import VERDICT, Verdict
from registry.core.errors import Forbidden, GatehouseError

log = structlog.get_logger(__name__)

_REQUEST_ID_SHAPE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cache-control": "no-store",
}
"""Set on every answer that does not set them itself."""

_HSTS = "max-age=31536000"


class HostRefused(Forbidden):
    code = "HOST_NOT_ALLOWED"


class OriginRefused(Forbidden):
    code = "ORIGIN_NOT_ALLOWED"


class Edge:
    """Stands in front of an application.

    Args:
        max_body_bytes: largest request body.
        public_url: where it begins with `https`, browsers are told to stay there.
    """

    def __init__(self, app: ASGIApp, hosts: HostPolicy, *, max_body_bytes: int, public_url: str | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self._headers = dict(SECURITY_HEADERS)
        if public_url and urlsplit(public_url).scheme == "https":
            self._headers["strict-transport-security"] = _HSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = request_id = _request_id(scope)
        started = finished = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started, finished
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(scope, message, request_id)
            elif message["type"] == "http.response.body":
                finished = not message.get("more_body", False)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                self._guard(scope)
                await self._app(scope, _capped(receive, self._max_body_bytes), send_with_headers)
            except Exception as error:
                if not isinstance(error, GatehouseError):
                    log.exception("unexpected error", method=scope["method"], path=scope["path"])
                if started and not finished:
                    # Half an answer cannot be taken back; the server ends the connection.
                    raise
                if not started:
                    await error_response(scope, error)(scope, receive, send_with_headers)

    def _guard(self, scope: Scope) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            raise BadRequest("The request must have exactly one Host header.")
        if not self._hosts.admits_host(hosts[0]):
            raise HostRefused("This Host is not answered here: add it to GATEHOUSE_ALLOWED_HOSTS.")
        for name, value in scope["headers"]:
            if name == b"origin" and not self._hosts.admits_origin(value, hosts[0]):
                raise OriginRefused("Requests of this Origin are not answered: add it to GATEHOUSE_ALLOWED_HOSTS.")
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > self._max_body_bytes):
                raise _too_large(self._max_body_bytes)
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            raise BadRequest("The address has a NUL character.")

    def _add_headers(self, scope: Scope, message: Message, request_id: str) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        headers["X-Request-ID"] = request_id
        verdict: Verdict | None = scope.get(VERDICT)
        if verdict is not None:
            headers.update(verdict.headers())


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID_SHAPE.fullmatch(value):
            return value.decode("ascii")
    return f"req-{os.urandom(12).hex()}"


def _capped(receive: Receive, most: int) -> Receive:
    """Counts a body that did not say its length beforehand, or lied."""
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
        return message

    return counting


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {most} bytes.", details={"max_bytes": most})
