"""The server: the SDK's handlers over what is offered, and the application that serves them over HTTP."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.support.servers.conformance import prompts, resources, tools
from tests.support.servers.conformance.call import Call, InputNeeded, Json
from tests.support.servers.conformance.offer import Offer
from tests.support.servers.conformance.tasks import EXTENSION, TaskParams

NAME = "conformance-fixture"
RETRY_MILLISECONDS = 50
TTL_MILLISECONDS = 60_000
_LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


class RememberedEvents(EventStore):
    """All events of all legacy streams, for clients that come back with `Last-Event-ID`."""

    def __init__(self) -> None:
        self._events: list[tuple[StreamId, Any]] = []

    async def store_event(self, stream_id: StreamId, message: Any) -> EventId:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        last = int(last_event_id) if last_event_id.isdigit() else 0
        if not 0 < last <= len(self._events):
            return None
        stream = self._events[last - 1][0]
        for number, (of, message) in enumerate(self._events[last:], last + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class _DeclaringServer(Server[Any]):
    """Declares to legacy clients that its lists change; modern ones learn that from `subscriptions/listen`."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


def _complete(**result: Any) -> Json:
    """A result that is the last one; the SDK takes the word out again for legacy clients."""
    return {"resultType": "complete", **result}


class _Handlers:
    """Answers each method; results are plain dicts, which the SDK checks against its schemas."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def list_tools(self, ctx: Any, params: Any) -> Json:
        return _complete(tools=[entry.definition() for entry in tools.listed(self._offer)])

    def input_schema(self, name: str) -> Json | None:
        return next((entry.schema for entry in tools.listed(self._offer) if entry.name == name), None)

    async def call_tool(self, ctx: Any, params: types.CallToolRequestParams) -> Json:
        try:
            result = await tools.run(params.name, Call(ctx, params.arguments), self._offer)
        except InputNeeded as needed:
            return needed.result()
        if result is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name!r}.")
        return result if "resultType" in result else _complete(**result)

    async def list_prompts(self, ctx: Any, params: Any) -> Json:
        return _complete(prompts=[prompt.definition() for prompt in prompts.listed(self._offer)])

    async def get_prompt(self, ctx: Any, params: types.GetPromptRequestParams) -> Json:
        prompt = next((each for each in prompts.listed(self._offer) if each.name == params.name), None)
        if prompt is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no prompt {params.name!r}.")
        missing = [name for name in prompt.arguments if name not in (params.arguments or {})]
        if missing:
            raise MCPError(types.INVALID_PARAMS, f"The prompt needs {', '.join(missing)}.")
        try:
            messages = await prompt.messages(Call(ctx, params.arguments))
        except InputNeeded as needed:
            return needed.result()
        return _complete(description=prompt.description, messages=messages)

    async def list_resources(self, ctx: Any, params: Any) -> Json:
        return _complete(resources=resources.RESOURCES)

    async def list_templates(self, ctx: Any, params: Any) -> Json:
        return _complete(resourceTemplates=resources.TEMPLATES)

    async def read_resource(self, ctx: Any, params: types.ReadResourceRequestParams) -> Json:
        uri = str(params.uri)
        found = resources.read(uri, self._offer)
        if found is None:
            # Revisions before the modern one have a code of their own for this.
            code = types.INVALID_PARAMS if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else -32002
            raise MCPError(code, "Resource not found", {"uri": uri})
        return _complete(**found)

    async def subscribe(self, ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        session = self._offer.session_of(ctx)
        if session is not None:
            session.watched.add(str(params.uri))
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        session = self._offer.session_of(ctx)
        if session is not None:
            session.watched.discard(str(params.uri))
        return types.EmptyResult()

    async def complete(self, ctx: Any, params: types.CompleteRequestParams) -> Json:
        known = ("paris", "park", "party", "test", "testing")
        values = [value for value in known if value.startswith(params.argument.value)]
        return _complete(completion={"values": values, "total": len(values), "hasMore": False})

    async def set_level(self, ctx: Any, params: types.SetLevelRequestParams) -> types.EmptyResult:
        session = self._offer.session_of(ctx)
        if session is not None:
            session.level = params.level
        return types.EmptyResult()

    async def remember_session(self, ctx: Any, call_next: CallNext) -> HandlerResult:
        """Middleware: every session that is heard of can be told of changes."""
        self._offer.session_of(ctx)
        return await call_next(ctx)


def make_server() -> Server[Any]:
    offer = Offer()
    handlers = _Handlers(offer)
    public = CacheHint(ttl_ms=TTL_MILLISECONDS, scope="public")
    server = _DeclaringServer(
        NAME,
        version="1.0.0",
        instructions="Offers what the conformance suite asks for.",
        cache_hints=dict.fromkeys(_LISTS, public) | {"resources/read": CacheHint()},
        get_tool_input_schema=handlers.input_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.subscribe,
        on_unsubscribe_resource=handlers.unsubscribe,
        on_subscriptions_listen=ListenHandler(offer.bus),
        on_completion=handlers.complete,
    )
    # Not a constructor argument: the SDK warns there that the method is of the legacy era, which is why it is here.
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, handlers.set_level)
    for method, handler in (("get", offer.tasks.get), ("update", offer.tasks.update), ("cancel", offer.tasks.cancel)):
        server.add_request_handler(f"tasks/{method}", TaskParams, handler)
    server.extensions = {EXTENSION: {}}
    boundary = RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME)
    server.middleware += [handlers.remember_session, boundary]
    return server


def make_app() -> Any:
    """The server as an ASGI application with `/mcp`, for clients on this machine."""
    return make_server().streamable_http_app(event_store=RememberedEvents(), retry_interval=RETRY_MILLISECONDS)
