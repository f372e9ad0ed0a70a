"""Streamable HTTP servers of the modern era: each request stands alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gateway.mcp import envelope, sse, translate
from gateway.mcp.headers import encode_value
from gateway.mcp.upstream.exchange import HttpExchange, answer_in, is_events, notice_in
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed
from gateway.mcp.upstream.port import Answer, OutcomeUnknown, Outgoing

if TYPE_CHECKING:
    from registry.core.egress import Egress
    from registry.servers.connection import Connection

_VERSION = b"mcp-protocol-version: 2026-07-28\r\nmcp-method: "


class ModernHttpUpstream:
    """One modern server reached over streamable HTTP. Closing an answer's stream is how a call is cancelled."""

    def __init__(self, connection: Connection, egress: Egress) -> None:
        self._exchange = HttpExchange(connection, egress)

    async def request(self, outgoing: Outgoing) -> Answer:
        params = outgoing.params
        if not outgoing.modern:
            params = translate.stamp(params, outgoing.capabilities, outgoing.log_level)
        head = _VERSION + outgoing.method.encode() + b"\r\n"
        if outgoing.name is not None:
            head += b"mcp-name: " + encode_value(outgoing.name).encode() + b"\r\n"
        body = envelope.request(outgoing.id, outgoing.method, params)
        response = await self._exchange.send("POST", head + outgoing.param_headers, body)
        rewrite = None if outgoing.modern else translate.to_legacy(outgoing.id)
        if not is_events(response):
            return await self._exchange.answer(response, outgoing.id, rewrite, modern=outgoing.modern)
        assert response.stream is not None
        answer = Answer()
        answer.stream = self._events(response.stream, answer, outgoing.id, rewrite)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        """This era has no notifications from clients."""

    async def close(self) -> None:
        await self._exchange.close()

    async def _events(
        self, stream: BodyStream, answer: Answer, identifier: bytes, rewrite: translate.Rewrite | None
    ) -> AsyncIterator[bytes]:
        """The events as they come, up to the answer; what a server sends after it is dropped."""
        splitter = sse.Splitter()
        answered = False
        try:
            while not answered:
                out: list[bytes] = []
                for event in splitter.feed(await anext(stream)):
                    message = answer_in(event, identifier)
                    if message is not None:
                        answer.judge(message)
                        answered = True
                        out.append(event if rewrite is None else sse.frame(rewrite(message)))
                        break
                    if notice_in(event):
                        out.append(event)
                if answered:
                    stream.leave()
                if out:
                    yield b"".join(out)
        except StopAsyncIteration:
            raise OutcomeUnknown(self._exchange.slug, "the stream ended without an answer") from None
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self._exchange.slug, str(error) or "an event was too large") from None
        finally:
            if not answered:
                await stream.aclose()
