"""The Python SDK's client, in both eras, with the agent's key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.e2e.furnish import ALL_TOOLS, EVERYTHING, NOTES, PROMPTS, WEB, Furnished
from tests.e2e.wire import LEGACY, MODERN
from tests.support.servers import everything, notes

MODES = [("legacy", LEGACY), ("auto", MODERN), (MODERN, MODERN)]


@asynccontextmanager
async def connected(url: str, key: str, mode: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            yield client


Connect = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture(params=MODES, ids=[mode for mode, _ in MODES])
def connect(request: pytest.FixtureRequest, furnished: Furnished) -> Connect:
    """Opens a client in one era. It is opened inside the test: it must be closed by the task that opened it."""
    mode, version = request.param

    @asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        async with connected(furnished.mcp, furnished.gateway.agent_key, mode) as client:
            assert client.protocol_version == version
            yield client

    return opened


def text_of(contents: list) -> str:
    return "".join(part.text for part in contents)


async def test_it_lists_tools(connect: Connect) -> None:
    async with connect() as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= ALL_TOOLS


async def test_it_calls_each_server(connect: Connect) -> None:
    async with connect() as client:
        for server in (EVERYTHING, WEB):
            told = await client.call_tool(f"{server}__get-sum", {"a": 2, "b": 40})
            assert text_of(told.content) == "The sum of 2 and 40 is 42."
        added = await client.call_tool(f"{NOTES}__add", {"a": 2, "b": 40})
        assert added.structured_content == {"result": 42}
        assert not added.is_error


async def test_it_reads_resources(connect: Connect) -> None:
    async with connect() as client:
        uris = {resource.uri for resource in (await client.list_resources()).resources}
        assert notes.README_URI in uris
        assert text_of((await client.read_resource(notes.README_URI)).contents) == notes.README_TEXT
        templates = {template.uri_template for template in (await client.list_resource_templates()).resource_templates}
        assert notes.ABOUT_TEMPLATE in templates


async def test_it_gets_prompts(connect: Connect) -> None:
    async with connect() as client:
        assert {prompt.name for prompt in (await client.list_prompts()).prompts} >= PROMPTS
        for server in (EVERYTHING, WEB):
            got = await client.get_prompt(f"{server}__args-prompt", {"city": "Oslo"})
            assert text_of([message.content for message in got.messages]) == "What's weather in Oslo?"
        got = await client.get_prompt(f"{NOTES}__{notes.PROMPT}", {"language": "C"})
        assert text_of([message.content for message in got.messages]) == "Review this C code."


async def test_an_unknown_tool_is_an_error_after_which_calls_work(connect: Connect) -> None:
    async with connect() as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool(f"{NOTES}__nothing", {})
        assert refused.value.error.code == -32602
        assert (await client.call_tool(f"{NOTES}__shout", {"text": "still"})).structured_content == {"result": "STILL"}


@pytest.mark.parametrize(("mode", "version"), MODES)
@pytest.mark.parametrize("server", [EVERYTHING, WEB])
async def test_it_reads_at_one_servers_own_endpoint(furnished: Furnished, server: str, mode: str, version: str) -> None:
    async with connected(furnished.server_mcp(server), furnished.gateway.agent_key, mode) as client:
        assert client.protocol_version == version
        read = await client.read_resource(everything.DOCUMENT_URI)
        assert text_of(read.contents).startswith(everything.DOCUMENT_TITLE)
        assert {tool.name for tool in (await client.list_tools()).tools} >= set(everything.TOOLS)


@pytest.mark.parametrize(("mode", "version"), MODES)
async def test_a_wrong_key_opens_nothing(furnished: Furnished, mode: str, version: str) -> None:
    with pytest.RaisesGroup(Exception, flatten_subgroups=True, allow_unwrapped=True):
        async with connected(furnished.mcp, "mcp_wrong_" + "x" * 40, mode) as client:
            await client.list_tools()
