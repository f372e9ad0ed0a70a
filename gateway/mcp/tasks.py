"""Tasks of the extension `io.modelcontextprotocol/tasks`: their ids, as callers know them.

A task belongs to the caller that began it and to its server. The id that the caller sees names the server and carries
a digest for the caller, so that it leads back to the right server, and to nobody else's task. Source: SEP-2663.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import protocol, sse, translate
from gateway.mcp.envelope import Message, ProtocolError, decode_message, decode_params, decode_text, encode, result
from registry.core.security import Digester

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.mcp.upstream.port import Answer
    from registry.identity.principal import Principal

EXTENSION = protocol.TASKS.encode()
METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
_MARK = b'"taskId"'


def needs_extension() -> ProtocolError:
    """What a client is told that uses tasks without having said that it knows them."""
    return ProtocolError(
        protocol.MISSING_CAPABILITY,
        "A client that uses tasks must declare their extension.",
        data={"requiredCapabilities": msgspec.Raw(b'{"extensions":{"%b":{}}}' % EXTENSION)},
        status=400,
    )


class _Task(msgspec.Struct, array_like=True):
    server_id: str
    id: str


class TaskIds:
    """Makes task ids that callers see, and reads them."""

    def __init__(self, digester: Digester) -> None:
        self._digester = digester

    def open(self, principal: Principal, shown: str) -> tuple[str, str]:
        """Server id and the server's own task id.

        Raises:
            ProtocolError: nobody began such a task, or somebody else did.
        """
        text, _, digest = shown.rpartition(".")
        if text and self._digester.matches(f"{principal.subject} {text}", digest):
            with suppress(binascii.Error, msgspec.DecodeError):
                task = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Task)
                return task.server_id, task.id
        raise ProtocolError(protocol.INVALID_PARAMS, f"Unknown task: {shown[:100]}")

    def _shown(self, principal: Principal, server_id: str, task_id: str) -> str:
        text = base64.urlsafe_b64encode(msgspec.json.encode(_Task(server_id, task_id))).decode()
        return f"{text}.{self._digester.digest(f'{principal.subject} {text}')}"

    def seal(self, answer: Answer, principal: Principal, server_id: str) -> None:
        """Put the id that the caller is to see into an answer that has one."""
        if answer.stream is not None and not answer.large:
            answer.stream = self._sealed_events(answer.stream, principal, server_id)
        elif _MARK in answer.body:
            answer.body = self._sealed(decode_message(answer.body), principal, server_id) or answer.body

    async def _sealed_events(
        self, stream: AsyncIterator[bytes], principal: Principal, server_id: str
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in stream:
                if _MARK not in chunk:
                    yield chunk
                    continue
                out: list[bytes] = []
                for event in sse.Splitter().feed(chunk):
                    data = sse.data_of(event)
                    sealed = self._sealed(decode_message(data), principal, server_id) if _MARK in data else None
                    out.append(event if sealed is None else sse.frame(sealed))
                yield b"".join(out)
        finally:
            await translate.close(stream)

    def _sealed(self, message: Message, principal: Principal, server_id: str) -> bytes | None:
        if message.method or not bytes(message.result):
            return None
        fields = decode_params(message.result)
        if "taskId" not in fields:
            return None
        shown = self._shown(principal, server_id, decode_text(fields["taskId"]))
        fields["taskId"] = msgspec.Raw(encode(shown))
        return result(bytes(message.id), encode(fields))
