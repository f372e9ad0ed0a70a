"""The tasks extension of the modern era (`io.modelcontextprotocol/tasks`), with the tools that its scenarios call.

A call of such a tool by a client that declares the extension is answered with a task; the client then asks for it,
answers its questions or cancels it. `tools` calls `offered` for the names here, `server` serves the three methods.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import Field

from tests.support.servers.conformance import forms
from tests.support.servers.conformance.call import Call, Json

EXTENSION = "io.modelcontextprotocol/tasks"
SECOND = 0.1
"""What the tools take for a second: the scenarios wait for tasks of several."""
TTL_MILLISECONDS, POLL_MILLISECONDS = 300_000, 50


class TaskParams(types.RequestParams):
    task_id: str = Field(alias="taskId")
    input_responses: dict[str, Any] = Field(default={}, alias="inputResponses")


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class Task:
    """A call that goes on after it has been answered."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: str = "working"
    created: str = field(default_factory=_now)
    outcome: Json = field(default_factory=dict)
    """`result` or `error`, at the end."""
    asked: Json = field(default_factory=dict)
    answers: Json = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None

    def envelope(self) -> Json:
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": _now(),
            "ttlMs": TTL_MILLISECONDS,
            "pollIntervalMs": POLL_MILLISECONDS,
        }

    def detail(self) -> Json:
        asked = {"inputRequests": self.asked} if self.status == "input_required" else {}
        return {"resultType": "complete", **self.envelope(), **asked, **self.outcome}

    async def ask(self, requests: dict[str, Json]) -> dict[str, Json]:
        self.asked, self.status = dict(requests), "input_required"
        while self.asked:
            await self.answered.wait()
            self.answered.clear()
        self.status = "working"
        return {key: self.answers[key] for key in requests}

    def answer(self, responses: Json) -> None:
        for key in [key for key in responses if key in self.asked]:
            self.answers[key] = responses[key]
            del self.asked[key]
        self.answered.set()


Body = Callable[[Task, Json], Awaitable[str]]


class JobFailed(Exception):
    """The tool itself reports an error."""


@dataclass(frozen=True)
class TaskTool:
    """A tool whose calls become tasks.

    Args:
        alone: it can also be answered at once, for clients without the extension.
        first: asked before the task is made; its answers go to the body with the arguments.
    """

    description: str
    body: Body
    properties: Json = field(default_factory=dict)
    alone: bool = False
    first: Json = field(default_factory=dict)

    @property
    def schema(self) -> Json:
        return {"type": "object", "properties": self.properties}


async def _compute(task: Task, arguments: Json) -> str:
    await asyncio.sleep(float(arguments.get("seconds", 1)) * SECOND)
    return f"computed {arguments.get('label', 'nothing')}"


async def _fail(task: Task, arguments: Json) -> str:
    await asyncio.sleep(SECOND)
    raise JobFailed("This job always fails.")


async def _break(task: Task, arguments: Json) -> str:
    await asyncio.sleep(SECOND)
    raise MCPError(types.INTERNAL_ERROR, "This job always breaks.")


async def _delete(task: Task, arguments: Json) -> str:
    answers = await task.ask({f"confirm-{task.id}": forms.elicit("Delete it?", {"confirm": {"type": "boolean"}})})
    return f"{arguments.get('filename')}: {answers[f'confirm-{task.id}'].get('action')}"


async def _two_questions(task: Task, arguments: Json) -> str:
    answers = await task.ask({f"first-{task.id}": forms.ASK_NAME, f"second-{task.id}": forms.ASK_NAME})
    return " ".join(str(answer.get("action")) for answer in answers.values())


async def _greet_later(task: Task, arguments: Json) -> str:
    await asyncio.sleep(SECOND)
    return f"Hello, {arguments['user_name'].get('content', {}).get('name')}!"


_SECONDS: Json = {"seconds": {"type": "number"}, "label": {"type": "string"}}
TOOLS: dict[str, TaskTool] = {
    "slow_compute": TaskTool("Takes some seconds.", _compute, _SECONDS, alone=True),
    "failing_job": TaskTool("Fails after a second.", _fail),
    "protocol_error_job": TaskTool("Breaks after a second.", _break),
    "confirm_delete": TaskTool("Asks before it deletes.", _delete, {"filename": {"type": "string"}}),
    "multi_input": TaskTool("Asks two things at once.", _two_questions),
    "test_tool_with_task": TaskTool(
        "Asks for a name, then takes its time.", _greet_later, first={"user_name": forms.ASK_NAME}
    ),
}


def _declared(call: Call) -> bool:
    return call.modern and EXTENSION in call.declared().get("extensions", {})


def _require(call: Call) -> None:
    """Raises the protocol's error if this request does not declare the extension."""
    if _declared(call):
        return
    code = types.MISSING_REQUIRED_CLIENT_CAPABILITY if call.modern else types.INVALID_REQUEST
    data = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    raise MCPError(code, "This needs the client's tasks extension.", data)


def _content(words: str, *, failed: bool = False) -> Json:
    return {"resultType": "complete", "content": [{"type": "text", "text": words}], "isError": failed}


class Tasks:
    """All tasks of the server."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    async def call(self, name: str, call: Call) -> Json:
        """The result of a call of one of `TOOLS`."""
        tool = TOOLS[name]
        if tool.alone and not _declared(call):
            # A client that waits for the answer does not wait for a minute.
            return _content(await tool.body(Task(), {**call.arguments, "seconds": 0}))
        _require(call)
        given = await call.ask(tool.first) if tool.first else {}
        task = Task()
        self._tasks[task.id] = task
        task.work = asyncio.create_task(self._work(task, tool, {**call.arguments, **given}))
        return {"resultType": "task", **task.envelope()}

    async def get(self, ctx: Any, params: TaskParams) -> Json:
        return self._find(ctx, params).detail()

    async def update(self, ctx: Any, params: TaskParams) -> Json:
        self._find(ctx, params).answer(params.input_responses)
        return {"resultType": "complete"}

    async def cancel(self, ctx: Any, params: TaskParams) -> Json:
        task = self._find(ctx, params)
        if task.status not in ("completed", "failed", "cancelled") and task.work is not None:
            task.work.cancel()
            task.status = "cancelled"
        return {"resultType": "complete"}

    def _find(self, ctx: Any, params: TaskParams) -> Task:
        call = Call(ctx, {})
        if not call.modern:
            raise MCPError(types.METHOD_NOT_FOUND, "Method not found")
        if ctx.request.headers.get("mcp-name", params.task_id) != params.task_id:
            raise MCPError(types.HEADER_MISMATCH, "Mcp-Name must be the id of the task.")
        _require(call)
        task = self._tasks.get(params.task_id)
        if task is None:
            raise MCPError(types.INVALID_PARAMS, "There is no such task.")
        return task

    async def _work(self, task: Task, tool: TaskTool, arguments: Json) -> None:
        try:
            task.outcome = {"result": _content(await tool.body(task, arguments))}
            task.status = "completed"
        except JobFailed as failure:
            task.outcome = {"result": _content(str(failure), failed=True)}
            task.status = "completed"
        except MCPError as error:
            task.outcome = {"error": {"code": error.error.code, "message": error.error.message}}
            task.status = "failed"
