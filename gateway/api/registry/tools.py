"""Every MCP tool over plain REST: `/v1/tools`, and a try of one server's methods.

A call made here is the same call as one made over MCP: `gateway.app` gives the routes the door to it. The description
of the tools as an OpenAPI document is `tools_description`. Source of the try: `sprintconnect.md`, Capabilities.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.api.registry.servers import DISCOVERY
from gateway.api.registry.tools_description import describe
from gateway.api.shared.errors import REQUEST_ID
from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.route import Caller, Front, requires
from gateway.api.shared.tool_door import ToolDoor
from registry.core.errors import GatehouseError, Invalid

Method = Literal[
    "tools/call",
    "resources/read",
    "prompts/get",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
]
_UPSTREAM_FAULT = frozenset({"NOT_SENT", "OUTCOME_UNKNOWN", "UPSTREAM_ERROR"})


class ToolsAnswer(BaseModel):
    """For the description alone; the route writes the definitions as the servers gave them."""

    tools: list[dict[str, Any]]
    total: int
    limit: int
    offset: int


class CapabilityTest(BaseModel):
    method: Method
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


class CapabilityTested(BaseModel):
    """How a try ended.

    Args:
        success: there is a result, and it is no error of the tool.
        error: what the server did wrong, where there is no result.
    """

    success: bool
    result: dict[str, Any] | None
    execution_time_ms: int
    error: dict[str, Any] | None = None


class ToolResult(BaseModel):
    """For the description alone, like `ToolsAnswer`."""

    content: list[dict[str, Any]]
    structuredContent: Any = None
    isError: bool = False


def router(front: Front, door: ToolDoor, *, url: str) -> APIRouter:
    """The routes.

    Args:
        url: the gateway's own address, named in the description of the tools.
    """
    api = front.router(tags=["Tools"])

    @api.get("/v1/tools", response_model=ToolsAnswer, dependencies=[requires("mcp:tools:list")])
    async def list_tools(
        caller: Caller,
        limit: PageLimit = 100,
        offset: PageOffset = 0,
    ) -> Response:
        found = door.tools(caller)
        page = b",".join(found[offset : offset + limit])
        return _json(b'{"tools":[%b],"total":%d,"limit":%d,"offset":%d}' % (page, len(found), limit, offset))

    @api.get("/v1/tools/openapi.json", dependencies=[requires("mcp:tools:list")])
    async def describe_tools(caller: Caller) -> Response:
        found = door.tools(caller)
        return _json(await asyncio.to_thread(lambda: json.dumps(describe(found, url)).encode()))

    # A tool's name is its server's choice and may have slashes.
    @api.post("/v1/tools/{name:path}", response_model=ToolResult)
    async def call_tool(name: str, request: Request, caller: Caller) -> Response:
        """Call a tool. The body is its arguments, a JSON object; none means no arguments."""
        arguments = await request.body() or b"{}"
        # Whatever its type is said to be: nothing but JSON that means one thing goes to a server.
        if arguments != b"{}" and not isinstance(await request.json(), dict):
            raise Invalid("The body must be a JSON object: the arguments of the tool by their names.")
        request_id: str = request.scope[REQUEST_ID]
        return _json(await door.call(caller, name, arguments, request_id=request_id, receive=request.receive))

    return api


def test_router(front: Front, door: ToolDoor) -> APIRouter:
    api = front.router(tags=["Capabilities"], limit=DISCOVERY)

    @api.post("/v1/mcp/servers/{server_id}/capabilities/test", dependencies=[requires("mcp:capabilities:test")])
    async def test_capability(
        server_id: str, body: CapabilityTest, request: Request, caller: Caller
    ) -> CapabilityTested:
        began = time.monotonic()
        result: dict[str, Any] | None = None
        error: dict[str, Any] | None = None
        request_id: str = request.scope[REQUEST_ID]
        try:
            result = json.loads(
                await door.ask(
                    caller,
                    server_id,
                    body.method,
                    json.dumps(body.params).encode(),
                    request_id=request_id,
                    receive=request.receive,
                )
            )
        except GatehouseError as failure:
            if failure.code not in _UPSTREAM_FAULT:
                raise
            error = {"code": failure.code, "message": failure.message, "details": failure.details}
        return CapabilityTested(
            success=result is not None and not result.get("isError"),
            result=result,
            execution_time_ms=round((time.monotonic() - began) * 1000),
            error=error,
        )

    return api


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
