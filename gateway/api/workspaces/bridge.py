"""The MCP bridge of the Workspaces API: a workspace's tools over plain REST. Source: `octoprox.md`, MCP Bridge.

A call made here passes what every call passes; `gateway.wiring` gives the routes the door to it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from gateway.api.shared.errors import REQUEST_ID
from gateway.api.shared.route import Caller, Front
from gateway.api.shared.tool_door import ToolDoor
from gateway.api.workspaces.shared import Wrapped, documents_router
from registry.identity.principal import Principal
from registry.workspaces.names import server_id_of
from registry.workspaces.service import WorkspaceService
from registry.workspaces.views import ToolView


class InvokeBody(BaseModel):
    workspace_id: int
    tool: Annotated[str, Field(min_length=1, max_length=200)]
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])


class ToolsData(BaseModel):
    tools: list[ToolView]
    count: int


class InvokedData(BaseModel):
    """`is_error`: the tool was called and says that it could not do it; `result` then says why."""

    tool: str
    workspace_id: int
    result: Any
    is_error: bool


def router(front: Front, workspaces: WorkspaceService, door: ToolDoor) -> APIRouter:
    api = documents_router(front, "Workspaces API: MCP bridge")

    async def found(caller: Principal, workspace_id: int) -> str:
        """The id under which its tools are reached, for those who may use it."""
        # A transaction of its own, which is over before a tool is waited for.
        async with front.database.reading() as session:
            return server_id_of((await workspaces.get(session, caller, workspace_id)).id)

    @api.get("/api/v1/mcp/tools")
    async def list_tools(workspace_id: Annotated[int, Query()], caller: Caller) -> Wrapped[ToolsData]:
        server_id = await found(caller, workspace_id)
        listed = json.loads(await door.ask(caller, server_id, "tools/list", b"{}"))["tools"]
        tools = [ToolView(name=tool["name"], description=tool.get("description") or "") for tool in listed]
        return Wrapped(data=ToolsData(tools=tools, count=len(tools)))

    @api.post("/api/v1/mcp/invoke")
    async def invoke_tool(body: InvokeBody, request: Request, caller: Caller) -> Wrapped[InvokedData]:
        server_id = await found(caller, body.workspace_id)
        params = json.dumps({"name": body.tool, "arguments": body.parameters}).encode()
        request_id: str = request.scope[REQUEST_ID]
        answer = json.loads(
            await door.ask(caller, server_id, "tools/call", params, request_id=request_id, receive=request.receive)
        )
        return Wrapped(
            data=InvokedData(
                tool=body.tool,
                workspace_id=body.workspace_id,
                result=_result(answer),
                is_error=bool(answer.get("isError")),
            )
        )

    return api


def _result(answer: dict[str, Any]) -> Any:
    """What the tool gives: its structured result where it has one, else its text, else its content as it came."""
    if answer.get("structuredContent") is not None:
        return answer["structuredContent"]
    content = cast("list[dict[str, Any]]", answer.get("content") or [])
    if content and all(item.get("type") == "text" for item in content):
        return "\n".join(str(item.get("text", "")) for item in content)
    return content
