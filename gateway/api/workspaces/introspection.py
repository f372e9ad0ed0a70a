"""Token introspection in the Workspaces API. Source: `octoprox.md`, Token Introspection; RFC 7662."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from gateway.api.shared.route import Front, public
from gateway.api.workspaces.shared import AUTHENTICATION, documents_router
from registry.core.errors import Unauthenticated
from registry.identity.introspection import Introspection, check_secret, introspection


class IntrospectBody(BaseModel):
    token: Annotated[str, Field(min_length=1, max_length=8192)]


def router(front: Front, *, secret: str | None) -> APIRouter:
    """The route.

    Args:
        secret: `GATEHOUSE_INTROSPECT_SECRET`, if there is one.
    """
    api = documents_router(front, "Workspaces API: authentication", AUTHENTICATION)

    @api.post("/api/v1/auth/introspect", response_model_exclude_none=True)
    @public
    async def introspect_token(
        body: IntrospectBody, x_introspect_secret: Annotated[str | None, Header(max_length=1024)] = None
    ) -> Introspection:
        check_secret(secret, x_introspect_secret)
        try:
            principal = await front.authenticator.verify(body.token.encode("utf-8", "surrogatepass"))
        except Unauthenticated:
            return introspection(body.token, None)
        return introspection(body.token, principal)

    return api
