"""The program that the suite starts as the client under test: it puts the gateway between the suite and itself.

It registers the address that the suite gives it as a server of the running gateway, uses everything that the server
offers through the gateway with the SDK's client, and unregisters it. What the suite then sees of a client is the
gateway's. It does the same for every scenario: list all, call all, read all, and answer whatever is asked.

From its environment: `GATEHOUSE_URL` and `GATEHOUSE_API_KEY` of the gateway, and what the suite sets.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    Root,
    TextContent,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.conformance.required import LEGACY

TIMEOUT_SECONDS = 12.0
SCHEMA_TOOL, ECHO_TOOL = "json_schema_2020_12_tool", "json_schema_echo"
_EXAMPLES = {"string": "text", "number": 2, "integer": 2, "boolean": True, "array": [], "object": {}}


def example(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments for the required properties."""
    properties = schema.get("properties", {})
    return {name: _EXAMPLES.get(properties[name].get("type")) for name in schema.get("required", ())}


def calls(tools: list[Tool], context: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What to call, with which arguments: what the suite asks for, else every tool once."""
    if "toolCalls" in context:
        return [(call["name"], call["arguments"]) for call in context["toolCalls"]]
    found = {tool.name: example(tool.input_schema) for tool in tools}
    if ECHO_TOOL in found:
        found[ECHO_TOOL] = {"schema": next(tool.input_schema for tool in tools if tool.name == SCHEMA_TOOL)}
    return list(found.items())


async def elicited(_: Any, params: Any) -> ElicitResult:
    """The user sends the form as it is: what it offers as default, and a value for what is required."""
    schema = getattr(params, "requested_schema", {})
    defaults = {name: each["default"] for name, each in schema.get("properties", {}).items() if "default" in each}
    return ElicitResult(action="accept", content={**example(schema), **defaults})


async def sampled(_: Any, params: Any) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", model="none", content=TextContent(type="text", text="an answer"))


async def rooted(_: Any) -> ListRootsResult:
    return ListRootsResult(roots=[Root(uri="file:///root", name="root")])


async def use(client: Client, context: dict[str, Any]) -> None:
    """Use all that is offered. A refusal of one thing does not keep from the next: the suite judges what it saw."""
    for name, arguments in calls((await client.list_tools()).tools, context):
        await _tried(client.call_tool(name, arguments))
    for resource in (await client.list_resources()).resources:
        await _tried(client.read_resource(resource.uri))
    for prompt in (await client.list_prompts()).prompts:
        wanted = {argument.name: "text" for argument in prompt.arguments or ()}
        await _tried(client.get_prompt(prompt.name, wanted))


async def _tried(request: Any) -> None:
    try:
        print(await request)
    except MCPError as error:
        print(f"refused: {error}", file=sys.stderr)


async def run(url: str, version: str, context: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {os.environ['GATEHOUSE_API_KEY']}"}
    gateway = os.environ["GATEHOUSE_URL"]
    mode = "legacy" if version not in MODERN_PROTOCOL_VERSIONS else version
    async with httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS, base_url=gateway) as http:
        name = f"suite-{os.getpid()}"
        made = await http.post("/v1/mcp/servers", json={"name": name, "base_url": url})
        made.raise_for_status()
        server = made.json()
        print(server)
        try:
            transport = streamable_http_client(f"{gateway}/servers/{server['slug']}/mcp", http_client=http)
            async with Client(
                transport,
                mode=mode,
                elicitation_callback=elicited,
                sampling_callback=sampled,
                list_roots_callback=rooted,
            ) as client:
                await use(client, context)
        finally:
            (await http.delete(f"/v1/mcp/servers/{server['id']}")).raise_for_status()


if __name__ == "__main__":
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    asyncio.run(run(sys.argv[1], os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", LEGACY), given))
