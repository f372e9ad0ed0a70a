"""The bridge between a client that speaks MCP over stdio and the gateway's streamable HTTP endpoint.

It carries messages and makes none up: a line becomes the body of a POST byte for byte, and what comes back becomes a
line. It reads of a message only what HTTP needs to know (era, method, name, id). A request of the 2026-07-28 revision
names its revision in `_meta` and is stateless; everything else belongs to the one session that `initialize` opens.
Only where no answer will come does the bridge answer itself, with a JSON-RPC error.

Processes, pipes and signals are in `gateway.cli.stdio`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.cli.client import Answer, GatewayClient, header, refusal
from gateway.cli.data import object_in, objects_in, parsed
from gateway.cli.errors import CommandFailed, ConnectionLost, GatewayUnreachable, KeyRefused
from gateway.cli.rpc import ACCEPT, messages, mirrored, modern_headers
from gateway.cli.sse import EventReader
from gateway.mcp.protocol import META_VERSION, NOT_SENT, OUTCOME_UNKNOWN, PARSE_ERROR
from registry.core.clock import Clock

DRAIN_SECONDS = 10.0
"""How long requests may still be answered once the client has closed its end."""
FAREWELL_SECONDS = 1.5
"""For ending the session; clients wait some two seconds before they kill."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
RESUMPTIONS = 5
CONCURRENT = 24
"""Requests under way at once. The pool has 32 connections to one host; what is left over carries the answers and
cancellations that requests under way may be waiting for."""

REFUSED, KEY_NOT_ACCEPTED = -31050, -31051
"""Codes of the bridge's own: the gateway's answer was no JSON-RPC; it did not accept the key."""

INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


class _Envelope(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


@dataclass(slots=True)
class Message:
    """A line of the client's, as far as it is understood.

    Args:
        raw: what is sent on.
        ids: of the requests in it, each as JSON. More than one only in a batch of the 2025-03-26 revision.
        method: of the message; `None` for an answer or a batch.
        revision: what `_meta` names; `None` for every revision that has a handshake.
        cancelled: set once the client no longer waits for an answer.
    """

    raw: bytes
    ids: tuple[bytes, ...]
    method: str | None = None
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    revision: str | None = None
    cancelled: bool = False

    @classmethod
    def read(cls, line: bytes) -> Message:
        """Raises `ValueError` for what is no JSON-RPC."""
        if line.startswith(b"["):
            parts = msgspec.json.decode(line, type=list[_Envelope])
            return cls(line, tuple(bytes(part.id) for part in parts if part.method and part.id))
        envelope = msgspec.json.decode(line, type=_Envelope)
        params = object_in(parsed(bytes(envelope.params)))
        revision = object_in(params.get("_meta")).get(META_VERSION)
        ids = (bytes(envelope.id),) if envelope.method and envelope.id else ()
        return cls(line, ids, envelope.method, params, revision if isinstance(revision, str) else None)


@dataclass(slots=True)
class _Session:
    """A legacy session: what opened it, and what the gateway said."""

    opening: Message
    id: str = ""
    revision: str = ""


class Bridge:
    """Carries messages until the client closes its end.

    Args:
        client: the gateway.
        write: puts one line out, without its end.
        complain: tells a person what no message can tell.
        clock: for the pauses between attempts.
        path: the MCP endpoint.
    """

    def __init__(
        self,
        client: GatewayClient,
        write: Callable[[bytes], Awaitable[None]],
        *,
        complain: Callable[[str], None],
        clock: Clock,
        path: str = "/mcp",
    ) -> None:
        self._client = client
        self._write = write
        self._complain = complain
        self._clock = clock
        self._path = path
        self._session: _Session | None = None
        self._opening: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._reopening = asyncio.Lock()
        self._room = asyncio.Semaphore(CONCURRENT)
        self._running: dict[asyncio.Task[None], Message] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        """Of the tools whose arguments are to be repeated as headers, as the lists that went by had them."""

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Carry every line, wait for the answers that are due, and end the session, also when cancelled."""
        try:
            async for line in lines:
                if text := line.strip(b" \t\r\n"):
                    await self._take(text)
            due = [task for task, message in self._running.items() if message.method != "subscriptions/listen"]
            if due:
                await asyncio.wait(due, timeout=DRAIN_SECONDS)
        finally:
            await self._close()

    async def _take(self, line: bytes) -> None:
        try:
            message = Message.read(line)
        except ValueError:
            await self._write(_error(b"null", PARSE_ERROR, "This line is no JSON-RPC message.", {}))
            return
        if message.method == "notifications/cancelled" and await self._cancel(message):
            return
        if message.revision is None and self._opening is not None and message.method != "initialize":
            # Only the answer to `initialize` tells what later messages must carry.
            await asyncio.wait([self._opening])
        if message.ids:
            task = asyncio.create_task(self._ask(message))
            self._running[task] = message
            task.add_done_callback(self._forget)
            if message.method == "initialize":
                self._opening = task
        else:
            # In order, and before whatever comes next: a server may refuse requests until it is initialized.
            await self._tell(message)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complain(f"the bridge failed on a message: {error!r}")

    async def _cancel(self, notice: Message) -> bool:
        """Whether the cancellation is done: closing the stream is all that a modern gateway needs."""
        try:
            wanted = _key(json.dumps(notice.params.get("requestId")).encode())
        except ValueError:
            return False
        for task, message in self._running.items():
            if wanted in map(_key, message.ids):
                message.cancelled = True
                if message.revision is not None:
                    task.cancel()
                    return True
        return False

    async def _ask(self, message: Message) -> None:
        try:
            async with self._room:
                missing = await self._exchange(message)
            if missing:
                raise ConnectionLost("The gateway ended its answer without the result; the call may have been made.")
        except CommandFailed as error:
            for asked in () if message.cancelled else message.ids:
                await self._write(_failure(asked, error))

    async def _tell(self, message: Message) -> None:
        try:
            await self._exchange(message)
        except CommandFailed as error:
            self._complain(error.message)
            return
        if message.method == "notifications/initialized" and message.revision is None:
            self._listen()

    def _headers(self, message: Message) -> dict[str, str]:
        if message.revision is not None:
            headers = modern_headers(message.revision, message.method or "", message.params)
            if message.method == "tools/call" and (schema := self._schemas.get(str(message.params.get("name")))):
                headers |= mirrored(schema, object_in(message.params.get("arguments")))
            return headers
        return {"Accept": ACCEPT, "Content-Type": "application/json", **self._session_headers(message)}

    def _session_headers(self, message: Message | None = None) -> dict[str, str]:
        session = self._session
        if session is None or (message is not None and message.method == "initialize"):
            return {}
        known = {"MCP-Protocol-Version": session.revision, "Mcp-Session-Id": session.id}
        return {name: value for name, value in known.items() if value}

    async def _exchange(self, message: Message, *, again: bool = True) -> set[bytes]:
        """Post a message and put out what comes back; the ids that were left without an answer."""
        session = self._session
        async with self._client.open("POST", self._path, headers=self._headers(message), body=message.raw) as answer:
            gone = answer.status == 404 and session is not None and session.id and message.revision is None
            if not (gone and again and message.method != "initialize"):
                return await self._answer(message, answer)
        await self._reopen(session)
        return await self._exchange(message, again=False)

    async def _answer(self, message: Message, answer: Answer) -> set[bytes]:
        due = set(map(_key, message.ids))
        if header(answer, "content-type").startswith("text/event-stream") and answer.status == 200:
            if message.method == "initialize":
                self._session = _Session(message, header(answer, "mcp-session-id"))
            return await self._stream(message, answer, due)
        body = await answer.read()
        if answer.status == 401 or not due:
            # A 401 may come as a JSON-RPC error too, but only this side knows what is to be set.
            if answer.status >= 300:
                raise refusal(self._client.address, answer.status, body)
            return due
        if message.method == "initialize" and answer.status == 200:
            self._session = _Session(message, header(answer, "mcp-session-id"), _negotiated(body))
        whole = self._whole(message, answer.status, body)
        self._learn(message, whole)
        await self._write(whole)
        return set()

    def _learn(self, message: Message, reply: bytes) -> None:
        # A client behind stdio has no headers to set, so what its tools want there is the bridge's to know.
        if message.method != "tools/list" or message.revision is None:
            return
        tools = object_in(object_in(parsed(reply)).get("result")).get("tools")
        for tool in objects_in(tools):
            self._schemas.pop(str(tool.get("name")), None)
            schema = object_in(tool.get("inputSchema"))
            if "x-mcp-header" in json.dumps(schema):
                self._schemas[str(tool.get("name"))] = schema

    def _whole(self, message: Message, status: int, body: bytes) -> bytes:
        """A body as one line, if it is the answer to `message`; an error without an id gets the one it belongs to."""
        if body.lstrip().startswith(b"[") and status == 200:
            return _flat(body)
        try:
            envelope = msgspec.json.decode(body, type=_Envelope)
        except ValueError:
            raise refusal(self._client.address, status, body) from None
        if not envelope.result and (not envelope.error or not _is_rpc_error(envelope.error)):
            raise refusal(self._client.address, status, body)
        if envelope.id and bytes(envelope.id) != b"null":
            return _flat(body)
        return b'{"jsonrpc":"2.0","id":' + message.ids[0] + b',"error":' + _flat(bytes(envelope.error)) + b"}"

    async def _stream(self, message: Message, answer: Answer, due: set[bytes]) -> set[bytes]:
        """Put out a stream's messages as they come, resuming a legacy one that breaks off."""
        reader = EventReader()
        await self._forward(message, messages(answer, reader), due)
        for _ in range(RESUMPTIONS):
            if not due or message.cancelled or message.revision is not None or reader.last_id is None:
                break
            await self._clock.sleep(reader.retry_seconds or FIRST_PAUSE)
            headers = {"Accept": "text/event-stream", "Last-Event-ID": reader.last_id, **self._session_headers()}
            async with self._client.open("GET", self._path, headers=headers) as resumed:
                if resumed.status != 200:
                    break
                await self._forward(message, messages(resumed, reader), due)
        return due

    async def _forward(self, message: Message, stream: AsyncIterator[bytes], due: set[bytes]) -> None:
        async for data in stream:
            envelope = _read_envelope(data)
            if envelope is not None and envelope.method is None and envelope.id:
                due.discard(_key(bytes(envelope.id)))
                self._learn(message, data)
                if message.method == "initialize" and self._session is not None:
                    self._session.revision = _negotiated(data)
            await self._write(_flat(data))
            if not due:
                return

    def _listen(self) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._messages_of_the_server())
            self._listening.add_done_callback(_observe(self._complain))

    async def _messages_of_the_server(self) -> None:
        """Keep the session's GET stream open: notices and requests that belong to no call."""
        reader, pause = EventReader(), FIRST_PAUSE
        while True:
            headers = {"Accept": "text/event-stream", **self._session_headers()}
            if reader.last_id is not None:
                headers["Last-Event-ID"] = reader.last_id
            try:
                async with self._client.open("GET", self._path, headers=headers) as answer:
                    if answer.status == 405:
                        return  # has nothing to say by itself
                    if answer.status == 200:
                        pause = FIRST_PAUSE
                        async for data in messages(answer, reader):
                            await self._write(_flat(data))
                    elif answer.status < 500:
                        return  # the next request finds out why, and opens a new session where that helps
            except CommandFailed:
                pass  # requests report it; here it is only a reason to try again
            await self._clock.sleep(reader.retry_seconds or pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _reopen(self, lost: _Session | None) -> None:
        """Open a new session as the client opened the lost one; the client need not know."""
        async with self._reopening:
            if lost is None or self._session is not lost:
                return
            opening = lost.opening
            headers = {"Accept": ACCEPT, "Content-Type": "application/json"}
            async with self._client.open("POST", self._path, headers=headers, body=opening.raw) as answer:
                if answer.status != 200:
                    raise refusal(self._client.address, answer.status, await answer.read())
                reply = await _first_reply(answer)
                self._session = _Session(opening, header(answer, "mcp-session-id"), _negotiated(reply))
            await self._exchange(Message(INITIALIZED, (), "notifications/initialized"), again=False)
            if self._listening is not None:
                self._listening.cancel()
                self._listening = None
            self._listen()

    async def _close(self) -> None:
        tasks = [*self._running, *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is None or not self._session.id:
            return
        try:
            async with self._client.open(
                "DELETE", self._path, headers=self._session_headers(), seconds=FAREWELL_SECONDS
            ):
                pass
        except CommandFailed:
            pass  # it will expire there


def _observe(complain: Callable[[str], None]) -> Callable[[asyncio.Task[None]], None]:
    def done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            complain(f"listening for the server's messages failed: {error!r}")

    return done


async def _first_reply(answer: Answer) -> bytes:
    if not header(answer, "content-type").startswith("text/event-stream"):
        return await answer.read()
    async for data in messages(answer, EventReader()):
        envelope = _read_envelope(data)
        if envelope is not None and envelope.method is None:
            return data
    raise ConnectionLost("The gateway ended its answer to initialize without a result.")


def _read_envelope(data: bytes) -> _Envelope | None:
    try:
        return msgspec.json.decode(data, type=_Envelope)
    except ValueError:
        return None


def _negotiated(reply: bytes) -> str:
    """The revision that an answer to `initialize` settles on; nothing for a refusal."""
    return str(object_in(object_in(parsed(reply)).get("result")).get("protocolVersion", ""))


def _is_rpc_error(error: msgspec.Raw) -> bool:
    """Problem documents have an `error` too, whose code is a word."""
    return isinstance(object_in(parsed(bytes(error))).get("code"), int)


def _key(id: bytes) -> bytes:
    """One spelling for ids that are equal."""
    return json.dumps(json.loads(id)).encode()


def _flat(body: bytes) -> bytes:
    """JSON on one line: a bare line end in it can only stand between tokens."""
    return body.strip().replace(b"\r", b" ").replace(b"\n", b" ")


def _failure(id: bytes, error: CommandFailed) -> bytes:
    kinds: Iterable[tuple[type[CommandFailed], int]] = (
        (KeyRefused, KEY_NOT_ACCEPTED),
        (GatewayUnreachable, NOT_SENT),
        (ConnectionLost, OUTCOME_UNKNOWN),
    )
    number = next((number for kind, number in kinds if isinstance(error, kind)), REFUSED)
    return _error(id, number, error.message, {"code": error.code})


def _error(id: bytes, number: int, message: str, data: dict[str, Any]) -> bytes:
    error = {"code": number, "message": message, "data": data}
    return b'{"jsonrpc":"2.0","id":' + id + b',"error":' + json.dumps(error).encode() + b"}"
