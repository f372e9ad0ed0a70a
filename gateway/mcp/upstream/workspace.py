"""Workspaces as upstreams: the MCP server in a container, over a byte stream that the container engine carries.

It speaks modern HTTP like any other; only how a connection is opened differs, that opening one wakes a workspace that
sleeps, and that calls to remotes of git take their caller's credentials along. Which container it is, and its life, is
behind `WorkspaceDoor`, which `gateway.wiring` provides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from gateway.mcp import translate
from gateway.mcp.envelope import Params, decode_params, encode
from gateway.mcp.upstream.modern_http import ModernHttpUpstream
from gateway.mcp.upstream.port import Answer, NotSent, Outgoing
from registry.core.errors import Unavailable
from workspace_runtime.inside.protocol import CREDENTIALS

if TYPE_CHECKING:
    from registry.core.egress import Target
    from registry.servers.connection import Connection

P = TypeVar("P", bound=asyncio.Protocol)

_URL = "http://workspace/mcp"
_TO_REMOTES = frozenset({"git_clone", "git_fetch", "git_push"})


class WorkspaceDoor(Protocol):
    """What opens workspaces."""

    async def connect(self, workspace_id: int, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A connection to its MCP server. Raises `Unavailable`, with a sentence that says why there is none."""
        ...

    async def credentials(self, workspace_id: int, user_id: str | None) -> Sequence[Any]:
        """What this user's calls show to remotes of git: objects of `url`, `username` and `password`."""
        ...

    def begin(self, workspace_id: int) -> None:
        """A call sets out, and keeps the workspace awake until `end`."""
        ...

    def end(self, workspace_id: int) -> None: ...


class _Dialer:
    """Opens what the pool takes for connections to an origin; see `pool.Dialer`."""

    def __init__(self, door: WorkspaceDoor, workspace_id: int) -> None:
        self._door = door
        self._workspace_id = workspace_id

    async def connect(
        self, protocol_factory: Callable[[], P], target: Target, *, timeout: float
    ) -> tuple[asyncio.Transport, P]:
        # Waking has a limit of its own, which is longer than connecting to a server may take.
        return await self._door.connect(self._workspace_id, protocol_factory)


class _Attended:
    """A stream that tells, once, when it has ended or was closed; a generator that is never begun could not."""

    def __init__(self, stream: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended: Callable[[], None] | None = ended

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._stream)
        except BaseException:
            self._end()
            raise

    async def aclose(self) -> None:
        self._end()
        await translate.close(self._stream)

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class WorkspaceUpstream:
    """One workspace."""

    def __init__(self, connection: Connection, workspace_id: int, door: WorkspaceDoor) -> None:
        self._slug = connection.slug
        self._workspace_id = workspace_id
        self._door = door
        self._http = ModernHttpUpstream(replace(connection, url=_URL), _Dialer(door, workspace_id))

    async def request(self, outgoing: Outgoing) -> Answer:
        self._door.begin(self._workspace_id)
        try:
            answer = await self._http.request(await self._equipped(outgoing))
        except Unavailable as error:
            self._door.end(self._workspace_id)
            raise NotSent(self._slug, error.message) from None
        except BaseException:
            self._door.end(self._workspace_id)
            raise
        if answer.stream is None:
            self._door.end(self._workspace_id)
        else:
            answer.stream = _Attended(answer.stream, partial(self._door.end, self._workspace_id))
        return answer

    async def _equipped(self, outgoing: Outgoing) -> Outgoing:
        """The request with what git is to show to remotes, and never with what somebody else put there."""
        if outgoing.method != "tools/call" or outgoing.name not in _TO_REMOTES:
            return outgoing
        lent = await self._door.credentials(self._workspace_id, outgoing.principal.user_id)
        return replace(outgoing, params=_with(outgoing.params, lent))

    async def notify(self, outgoing: Outgoing) -> None:
        """This era has no notifications from clients."""

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> None:
        """What a workspace offers changes with the gateway's version only; listening would keep it awake."""

    async def close(self) -> None:
        await self._http.close()


def _with(params: Params, credentials: Sequence[Any]) -> Params:
    meta = decode_params(params["_meta"]) if "_meta" in params else {}
    meta[CREDENTIALS] = msgspec.Raw(encode(credentials))
    return {**params, "_meta": msgspec.Raw(encode(meta))}
