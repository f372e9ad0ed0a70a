"""Size caps: arguments that are too large are refused, and of a tool's result that is too large the beginning is kept.

A model pays for every byte it reads, and a server that is told to can flood one. Small calls cost two comparisons. What
is streamed with its size told is not held back; only what may yet grow beyond its cap is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.mcp import protocol, sse, translate
from gateway.mcp.envelope import ProtocolError, encode
from gateway.mcp.upstream.pool import ConnectionFailed
from gateway.mcp.upstream.port import OutcomeUnknown
from registry.core.errors import GatehouseError
from registry.servers.names import prefixed

if TYPE_CHECKING:
    from gateway.mcp.policies.policy import Attempt
    from gateway.mcp.upstream.port import Answer

KEPT = 64 * 1024
"""Bytes of a cut result, from its beginning, in which text is looked for."""
_TEXT = re.compile(rb'"text"\s*:\s*"((?:[^"\\]|\\.)*+)', re.DOTALL)
_ENTRY = re.compile(r"([^=\s]+)=(\d+)/(\d+)")
_ANSWERS = (b'"result"', b'"error"')


class SizeLimitInvalid(GatehouseError):
    code = "SIZE_LIMIT_INVALID"
    title = "Size limit invalid"


class Caps(NamedTuple):
    """Bytes of JSON; 0 is no cap."""

    arguments: int
    result: int


def parse_size_limits(entries: Sequence[str]) -> dict[str, Caps]:
    """Caps of `NAME=ARGUMENTS/RESULT` entries, by a server's slug or a tool's name on `/mcp`.

    Raises:
        SizeLimitInvalid: an entry has another form.
    """
    made: dict[str, Caps] = {}
    for entry in entries:
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise SizeLimitInvalid(f"GATEHOUSE_SIZE_LIMITS has {entry!r}: write NAME=ARGUMENT_BYTES/RESULT_BYTES.")
        made[found[1]] = Caps(int(found[2]), int(found[3]))
    return made


class SizePolicy:
    """Judges arguments as a policy, and results by `cut`.

    Args:
        caps: of every tool, prompt and resource.
        by_name: of tools and servers that have their own; a tool's go before its server's.
    """

    def __init__(self, caps: Caps, by_name: Mapping[str, Caps]) -> None:
        self._caps = caps
        self._by_name = by_name

    def admit(self, attempt: Attempt) -> None:
        """Raises `ProtocolError` INVALID_PARAMS for arguments that are too large."""
        caps = self._caps if not self._by_name else self._caps_of(attempt)
        # Arguments are no larger than the request they came in.
        if attempt.bytes_in <= caps.arguments or not caps.arguments:
            return
        raw = attempt.params.get("arguments")
        size = len(bytes(raw)) if raw is not None else 0
        if size > caps.arguments:
            raise ProtocolError(
                protocol.INVALID_PARAMS,
                f"The arguments are {size} bytes of JSON, and {attempt.name} takes {caps.arguments}: send less at a "
                "time, or have an administrator raise GATEHOUSE_MAX_ARGUMENT_BYTES or GATEHOUSE_SIZE_LIMITS.",
                data={"code": "ARGUMENTS_TOO_LARGE", "size": size, "limit": caps.arguments},
            )

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Nothing is used up."""

    async def cut(self, attempt: Attempt, answer: Answer, identifier: bytes, *, modern: bool) -> None:
        """Replace a tool's result that is too large by its beginning and a note.

        Args:
            identifier: of the client's request, as JSON.
        """
        most = (self._caps if not self._by_name else self._caps_of(attempt)).result
        if answer.stream is None:
            if len(answer.body) > most > 0 and attempt.method == "tools/call":
                answer.body = _note(answer.body, len(answer.body), most, answer, identifier, modern=modern)
        elif most and attempt.method == "tools/call":
            if not answer.large:
                answer.stream = _cut_events(answer.stream, most, answer, identifier, modern=modern)
            elif answer.size is None or answer.size > most:
                try:
                    await _hold_back(answer, most, identifier, modern=modern)
                except ConnectionFailed as error:
                    raise OutcomeUnknown(attempt.server.slug, str(error)) from None

    def _caps_of(self, attempt: Attempt) -> Caps:
        server = attempt.server.slug
        name = prefixed(server, attempt.entry.name) if attempt.entry is not None else server
        return self._by_name.get(name) or self._by_name.get(server) or self._caps


async def _hold_back(answer: Answer, most: int, identifier: bytes, *, modern: bool) -> None:
    """Read a large body as far as it may go: it becomes an answer as a whole, or is cut."""
    stream = answer.stream
    assert stream is not None
    pieces: list[bytes] = []
    size = 0
    try:
        if answer.size is None:
            async for piece in stream:
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    break
        else:
            async for piece in stream:
                pieces.append(piece)
                size += len(piece)
                if size >= KEPT:
                    break
            size = answer.size
    finally:
        await translate.close(stream)
    body = b"".join(pieces)
    answer.stream, answer.large = None, False
    answer.body = body if size <= most else _note(body, size, most, answer, identifier, modern=modern)


async def _cut_events(
    stream: AsyncIterator[bytes], most: int, answer: Answer, identifier: bytes, *, modern: bool
) -> AsyncIterator[bytes]:
    try:
        async for chunk in stream:
            yield chunk if len(chunk) <= most else _cut_chunk(chunk, most, answer, identifier, modern=modern)
    finally:
        await translate.close(stream)


def _cut_chunk(chunk: bytes, most: int, answer: Answer, identifier: bytes, *, modern: bool) -> bytes:
    out: list[bytes] = []
    for event in sse.Splitter().feed(chunk):
        if len(event) <= most or not any(word in event for word in _ANSWERS):
            out.append(event)
        else:
            data = sse.data_of(event)
            out.append(sse.frame(_note(data, len(data), most, answer, identifier, modern=modern)))
    return b"".join(out)


def _note(body: bytes, size: int, most: int, answer: Answer, identifier: bytes, *, modern: bool) -> bytes:
    """The answer with what is left of its text, and what happened to the rest."""
    kept = "".join(map(_text, _TEXT.findall(body[: min(most, KEPT)])))
    note = (
        f"[The result was cut by the gateway: it has {size} bytes, more than the {most} that this tool may give. "
        f"{'Its text begins above.' if kept else 'It has no text to show.'} Ask for less at a time.]"
    )
    content = [{"type": "text", "text": text} for text in (kept, note) if text]
    result: dict[str, object] = {"content": content, "isError": answer.outcome != "ok"}
    if modern:
        result["resultType"] = "complete"
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, encode(result))


def _text(found: bytes) -> str:
    """The text of a JSON string that may have been cut within a character or an escape."""
    whole = found.decode("utf-8", errors="ignore")
    for _ in range(7):
        try:
            return msgspec.json.decode(f'"{whole}"', type=str)
        except msgspec.DecodeError:
            whole = whole[:-1]
    return ""
