"""`/metrics` for Prometheus. It tells of all organisations, so only this machine and chosen keys may read it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response

from gateway.auth.authenticator import Authenticator
from registry.core.errors import NotFound
from registry.identity.permissions import METRICS

Readers = Literal["loopback", "key", "off"]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def router(
    render: Callable[[], bytes],
    content_type: str,
    authenticator: Authenticator,
    readers: Readers,
    *,
    proxied: bool,
) -> APIRouter:
    """The route.

    Args:
        render: gives the metrics.
        readers: `loopback`: this machine without a key, others with one; `key`: only with a key that holds
            `gateway:metrics`; `off`: nobody.
        proxied: a proxy stands in front, so that requests from this machine may be anybody's.
    """
    api = APIRouter(tags=["Probes"])

    @api.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if readers == "off":
            raise NotFound("There are no metrics here: GATEHOUSE_METRICS is off.")
        if readers == "key" or proxied or not _is_here(request):
            headers = request.scope["headers"]
            principal = authenticator.cached(headers) or await authenticator.authenticate(headers)
            principal.require(METRICS)
        return Response(render(), media_type=content_type)

    return api


def _is_here(request: Request) -> bool:
    """Asked from this machine itself, and not by a proxy on it that nobody declared."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
