"""Why a tool may be called or not, in the Registry API. Our own route."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.api.shared.route import Caller, Front, Session, requires
from mcp_tools.explanation import Explains, Explanation
from registry.identity.service import IdentityService


def router(front: Front, identity: IdentityService, explains: Explains) -> APIRouter:
    api = front.router(tags=["Tools"])

    @api.get("/v1/tools/{name:path}/why", dependencies=[requires("mcp:servers:read")])
    async def explain_tool(name: str, session: Session, caller: Caller, key: int | None = None) -> Explanation:
        """Which rule decides about calls of a tool; `key` is the id of a key that one may see."""
        about = caller if key is None else await identity.bearer_of(session, caller, key)
        return await explains.explain(about, name)

    return api
