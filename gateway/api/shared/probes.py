"""Probes for whoever runs the gateway: is the process alive, and may it be sent requests. Open, and never limited."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response


def router(ready: Callable[[], bool]) -> APIRouter:
    api = APIRouter(tags=["Probes"])

    @api.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @api.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        is_ready = ready()
        return Response("ok\n" if is_ready else "not ready\n", 200 if is_ready else 503, media_type="text/plain")

    return api
