"""What the suite does not test across eras: the SDK's client against the conformance server, over all four pairs.

Every test also runs without the gateway, where both speak one era: what fails there is not the gateway's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.conformance.baseline import baseline
from tests.conformance.required import LEGACY, MODERN
from tests.support.gateway import RunningGateway
from tests.support.servers.conformance.process import ConformanceServer
from tests.support.servers.conformance.tools import WATCHED

PATHS = [
    "legacy direct",
    "modern direct",
    "legacy to legacy",
    "legacy to modern",
    "modern to legacy",
    "modern to modern",
]
SECONDS = 30.0
MODES: dict[str, Any] = {"legacy": "legacy", "modern": MODERN}
VERSIONS = {"legacy": LEGACY, "modern": MODERN}

# The legacy era's methods are deprecated in the SDK, and are what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest) -> str:
    reason = baseline("era pairs").get(f"{request.function.__name__}[{request.param}]")
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return request.param


class Person:
    """Who sits at the client: answers whatever is asked, and remembers it."""

    def __init__(self, action: str = "accept") -> None:
        self.action = action
        self.asked: list[Any] = []
        self.logged: list[Any] = []
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def elicited(self, _: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params)
        content = {
            "username": "ann",
            "email": "a@example.com",
            "name": "Ann",
            "ok": True,
            "color": "blue",
            "context": "c",
        }
        form = self.action == "accept" and params.mode == "form"
        wanted = params.requested_schema["properties"] if form else {}
        return types.ElicitResult(
            action=self.action, content={name: content[name] for name in wanted} if form else None
        )

    async def sampled(self, _: Any, params: Any) -> types.CreateMessageResult:
        self.asked.append(params)
        answer = types.TextContent(type="text", text="Paris")
        return types.CreateMessageResult(role="assistant", model="none", content=answer)

    async def rooted(self, _: Any) -> types.ListRootsResult:
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/ann", name="home")])

    async def logs(self, params: Any) -> None:
        self.logged.append(params.data)

    async def notified(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification | types.PromptListChangedNotification):
            await self.heard.put(message.method)
        elif isinstance(message, types.ResourceUpdatedNotification):
            await self.heard.put(str(message.params.uri))

    def callbacks(self) -> dict[str, Any]:
        return {
            "elicitation_callback": self.elicited,
            "sampling_callback": self.sampled,
            "list_roots_callback": self.rooted,
            "logging_callback": self.logs,
            "message_handler": self.notified,
        }


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture(scope="session")
def mount(gateway: RunningGateway, server: Callable[[str], ConformanceServer]) -> Callable[[str], str]:
    """The address, at the gateway, of the server of an era."""
    slugs: dict[str, str] = {}

    def address(era: str) -> str:
        if era not in slugs:
            answer = gateway.rest("POST", "/v1/mcp/servers", {"name": f"pair-{era}", "base_url": server(era).url})
            assert answer.status == 201, answer.text
            slugs[era] = answer.json()["slug"]
        return f"{gateway.url}/servers/{slugs[era]}/mcp"

    return address


Connect = Callable[..., Any]


@pytest.fixture
def connect(
    path: str,
    person: Person,
    gateway: RunningGateway,
    mount: Callable[[str], str],
    server: Callable[[str], ConformanceServer],
) -> Connect:
    """Opens a client on the test's path; it is opened inside the test, whose task must close it."""
    era, *_, far = path.split()
    # Directly to a server of its own: what is changed there must not reach the gateway's catalog meanwhile.
    url = server("both").url if far == "direct" else mount(far)
    headers = {} if far == "direct" else {"Authorization": f"Bearer {gateway.agent_key}"}

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[Client]:
        async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=SECONDS))
            transport = streamable_http_client(url, http_client=http)
            made = Client(transport, mode=MODES[era], **{**person.callbacks(), **options})
            client = await stack.enter_async_context(made)
            assert client.protocol_version == VERSIONS[era]
            yield client

    return opened


def said(result: Any) -> str:
    return "".join(block.text for block in result.content)


# -- what a server asks its client


async def test_elicitation(connect: Connect, person: Person) -> None:
    async with connect() as client:
        told = said(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
    assert "action=accept" in told
    assert "'ann'" in told
    assert [params.mode for params in person.asked] == ["form"]
    assert "Who are you?" in person.asked[0].message


async def test_elicitation_that_is_declined(connect: Connect, person: Person) -> None:
    person.action = "decline"
    async with connect() as client:
        assert "action=decline" in said(await client.call_tool("test_elicitation", {"message": "Who are you?"}))


async def test_elicitation_by_url(connect: Connect, person: Person) -> None:
    async with connect() as client:
        assert "action=accept" in said(await client.call_tool("elicitation_by_url", {}))
    assert [params.url for params in person.asked] == ["https://example.com/page"]


async def test_sampling(connect: Connect, person: Person) -> None:
    async with connect() as client:
        assert said(await client.call_tool("test_sampling", {"prompt": "The capital?"})) == "LLM response: Paris"
    assert person.asked[0].messages[0].content.text == "The capital?"


async def test_roots(connect: Connect) -> None:
    async with connect() as client:
        assert said(await client.call_tool("test_input_required_result_list_roots", {})) == "file:///home/ann"


async def test_several_questions_at_once(connect: Connect, person: Person) -> None:
    async with connect() as client:
        told = said(await client.call_tool("test_input_required_result_multiple_inputs", {}))
    assert told == "Paris Ann file:///home/ann"
    assert len(person.asked) == 3


async def test_one_question_after_the_other(connect: Connect, person: Person) -> None:
    async with connect() as client:
        told = said(await client.call_tool("test_input_required_result_multi_round", {}))
    assert told == "{'name': 'Ann'} {'color': 'blue'}"
    assert len(person.asked) == 2


async def test_a_server_that_has_its_state_carried(connect: Connect) -> None:
    async with connect() as client:
        assert said(await client.call_tool("test_input_required_result_request_state", {})) == "state-ok"


async def test_a_prompt_that_asks(connect: Connect) -> None:
    async with connect() as client:
        got = await client.get_prompt("test_input_required_result_prompt", {})
    assert got.messages[0].content.text == "Work in this context: c"


async def test_many_calls_that_ask_at_the_same_time(connect: Connect, person: Person) -> None:
    async with connect() as client:
        calls = (client.call_tool("test_elicitation", {"message": f"number {n}"}) for n in range(8))
        told = [said(result) for result in await asyncio.gather(*calls)]
    assert all("'ann'" in each for each in told)
    numbers = [re.search(r"number (\d)", params.message) for params in person.asked]
    assert sorted(int(number[1]) for number in numbers if number) == list(range(8))


async def test_a_client_that_cannot_answer_is_not_asked(connect: Connect) -> None:
    async with connect(sampling_callback=None) as client:
        with pytest.raises(MCPError, match="sampling"):
            await client.call_tool("test_sampling", {"prompt": "The capital?"})


# -- what comes on the way


async def test_progress(connect: Connect) -> None:
    steps: list[tuple[float, float | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append((done, total))

    async with connect() as client:
        await client.call_tool("test_tool_with_progress", {}, progress_callback=progress)
    assert steps == [(0, 100), (50, 100), (100, 100)]


async def test_logs_that_are_asked_for(connect: Connect, person: Person, path: str) -> None:
    legacy = path.startswith("legacy")
    async with connect(**({} if legacy else {"log_level": "info"})) as client:
        if legacy:
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
    assert person.logged == ["Tool execution started", "Tool processing data", "Tool execution completed"]


async def test_logs_that_are_not_asked_for(connect: Connect, person: Person, path: str) -> None:
    async with connect() as client:
        if path.startswith("legacy"):
            await client.set_logging_level("error")
        await client.call_tool("test_tool_with_logging", {})
    assert person.logged == []


async def test_completion(connect: Connect) -> None:
    reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    async with connect() as client:
        completed = await client.complete(reference, {"name": "arg1", "value": "par"})
    assert completed.completion.values == ["paris", "park", "party"]


# -- cancelling


async def counted(client: Client) -> tuple[int, int]:
    """How many calls wait at the server, and how many were cancelled so far."""
    found = re.fullmatch(r"waiting=(\d+) cancelled=(\d+)", said(await client.call_tool("waits", {})))
    assert found
    return int(found[1]), int(found[2])


async def test_a_call_that_is_cancelled_ends_at_the_server(connect: Connect) -> None:
    async with connect() as client, connect() as watcher:
        waiting, cancelled = await counted(watcher)
        call = asyncio.create_task(client.call_tool("wait", {}))
        while await counted(watcher) != (waiting + 1, cancelled):
            assert not call.done()
        call.cancel()
        while await counted(watcher) != (waiting, cancelled + 1):
            assert call.cancelled() or not call.done()


async def test_a_client_that_leaves_takes_its_calls_along(connect: Connect) -> None:
    async with connect() as watcher:
        waiting, cancelled = await counted(watcher)
        async with connect() as client:
            call = asyncio.create_task(client.call_tool("wait", {}))
            while await counted(watcher) != (waiting + 1, cancelled):
                assert not call.done()
            call.cancel()
        while await counted(watcher) != (waiting, cancelled + 1):
            pass


# -- changes


@asynccontextmanager
async def listening(client: Client, person: Person, path: str) -> AsyncIterator[None]:
    """Whatever changes is put into `person.heard`, as that client's era has it."""
    if path.startswith("legacy"):
        await client.subscribe_resource(WATCHED)
        yield
        await client.unsubscribe_resource(WATCHED)
        return
    wants = {"tools_list_changed": True, "prompts_list_changed": True, "resource_subscriptions": [WATCHED]}
    async with client.listen(**wants) as events:

        async def hear() -> None:
            async for event in events:
                uri = getattr(event, "uri", None)
                kinds = {"ToolsListChanged": "tools", "PromptsListChanged": "prompts"}
                await person.heard.put(uri or f"notifications/{kinds[type(event).__name__]}/list_changed")

        hearing = asyncio.create_task(hear())
        try:
            yield
        finally:
            hearing.cancel()


async def heard(person: Person, what: str) -> None:
    while await person.heard.get() != what:
        pass


async def test_a_change_of_the_tools_is_heard(connect: Connect, person: Person, path: str) -> None:
    async with connect() as client, listening(client, person, path):
        before = {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool("test_trigger_tool_change", {})
        await heard(person, "notifications/tools/list_changed")
        after = {tool.name for tool in (await client.list_tools()).tools}
        assert before ^ after == {"test_dynamic_tool"}


async def test_a_change_of_the_prompts_is_heard(connect: Connect, person: Person, path: str) -> None:
    async with connect() as client, listening(client, person, path):
        before = {prompt.name for prompt in (await client.list_prompts()).prompts}
        await client.call_tool("test_trigger_prompt_change", {})
        await heard(person, "notifications/prompts/list_changed")
        after = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert before ^ after == {"test_dynamic_prompt"}


async def test_an_update_of_a_resource_is_heard(connect: Connect, person: Person, path: str) -> None:
    async with connect() as client, listening(client, person, path):
        before = (await client.read_resource(WATCHED)).contents[0].text
        await client.call_tool("test_trigger_resource_update", {})
        await heard(person, WATCHED)
        assert (await client.read_resource(WATCHED)).contents[0].text != before
