"""One call of a tool or prompt, and how it asks its client for input in either era.

A modern client is answered `input_required` and calls again with its answers; a legacy client is asked over the
call's own stream while the call waits. What runs sees neither: it awaits `Call.ask`.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Json = dict[str, Any]

NEEDED_CAPABILITY = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
_PUSHED: dict[str, tuple[Any, Any]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}


def _legacy_form(request: Json) -> Json:
    """Revisions before the modern one identify an elicitation by URL, so that its end can be told."""
    if request.get("params", {}).get("mode") != "url":
        return request
    return {**request, "params": {**request["params"], "elicitationId": uuid.uuid4().hex}}


class InputNeeded(Exception):
    """The call cannot go on before its client answers.

    Args:
        requests: by key, in the protocol's form.
        state: what the client shall bring back, None for nothing.
    """

    def __init__(self, requests: dict[str, Json], state: str | None) -> None:
        super().__init__(f"input needed: {', '.join(requests)}")
        self.requests = requests
        self.state = state

    def result(self) -> Json:
        result: Json = {"resultType": "input_required", "inputRequests": self.requests}
        return result if self.state is None else {**result, "requestState": self.state}


class Call:
    """A request under way.

    Args:
        ctx: the SDK's view of it.
        arguments: of the tool or prompt.
    """

    def __init__(self, ctx: ServerRequestContext[Any, Any], arguments: Json | None) -> None:
        self.ctx = ctx
        self.arguments = arguments or {}
        self.modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        params = ctx.params or {}
        self._responses: Json = params.get("inputResponses") or {}
        state = params.get("requestState")
        self._brought_state = state is not None
        self._kept: Json = json.loads(state) if state else {}

    def declared(self) -> Json:
        """The client's capabilities."""
        capabilities = self.ctx.session.client_capabilities
        return capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}

    def require(self, capability: str) -> None:
        """Raises the protocol's error if the client has not declared the capability."""
        if capability in self.declared():
            return
        code = types.MISSING_REQUIRED_CLIENT_CAPABILITY if self.modern else types.INVALID_REQUEST
        raise MCPError(code, f"This needs the client's {capability}.", {"requiredCapabilities": {capability: {}}})

    async def ask(self, requests: dict[str, Json], *, with_state: bool = False) -> dict[str, Json]:
        """The client's answers by key.

        Args:
            requests: by key: method and params.
            with_state: a modern client carries `requestState`, and its answers count only with it.
        """
        for request in requests.values():
            self.require(NEEDED_CAPABILITY[request["method"]])
        if not self.modern:
            return await self._push_all(requests)
        heard = self._responses if self._brought_state or not with_state else {}
        known = {**self._kept, **heard}
        if not all(isinstance(known.get(key), dict) for key in requests):
            raise InputNeeded(requests, json.dumps(self._kept) if with_state else None)
        answers = {key: known[key] for key in requests}
        self._kept |= answers
        return answers

    async def progress(self, done: float, total: float) -> None:
        """A progress notification, if the client wants any."""
        await self.ctx.session.report_progress(done, total)

    async def _push_all(self, requests: dict[str, Json]) -> dict[str, Json]:
        answers: dict[str, Json] = {}

        async def push(key: str, request: Json) -> None:
            model, answer = _PUSHED[request["method"]]
            result = await self.ctx.session.send_request(
                model.model_validate(_legacy_form(request)),
                answer,
                metadata=ServerMessageMetadata(related_request_id=self.ctx.request_id),
            )
            answers[key] = result.model_dump(by_alias=True, mode="json", exclude_none=True)

        async with anyio.create_task_group() as group:
            for key, request in requests.items():
                group.start_soon(push, key, request)
        return answers
