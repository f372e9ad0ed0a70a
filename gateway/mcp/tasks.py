"""Tasks of the extension `io.modelcontextprotocol/tasks`: their ids, as callers know them.

A task belongs to the caller that began it and to its server. Its id is sealed for both before the caller sees it, so
that it leads back to the right server, and to nobody else's task. Source: SEP-2663.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import protocol, sse, translate
from gateway.mcp.envelope import Message, ProtocolError, decode_message, decode_params, decode_text, encode, result
from registry.core.security import SealBroken, Sealer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.mcp.upstream.port import Answer
    from registry.identity.principal import Principal

METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
_MARK = b'"taskId"'


class _Task(msgspec.Struct, array_like=True):
    server_id: str
    id: str


class TaskIds:
    """Seals and opens task ids."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def open(self, principal: Principal, sealed: str) -> tuple[str, str]:
        """Server id and the server's own task id.

        Raises:
            ProtocolError: nobody began such a task, or somebody else did.
        """
        try:
            task = msgspec.json.decode(self._sealer.open(sealed, principal.subject), type=_Task)
        except (SealBroken, msgspec.DecodeError):
            raise ProtocolError(protocol.INVALID_PARAMS, f"Unknown task: {sealed[:100]}") from None
        return task.server_id, task.id

    def seal(self, answer: Answer, principal: Principal, server_id: str) -> None:
        """Seal the task id in an answer that has one."""
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
        task = _Task(server_id, decode_text(fields["taskId"]))
        fields["taskId"] = msgspec.Raw(encode(self._sealer.seal(msgspec.json.encode(task), principal.subject)))
        return result(bytes(message.id), encode(fields))
