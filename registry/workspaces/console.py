"""Looking into a running workspace past its MCP server: what it has logged, what it uses, and a command run in it.

Nothing here holds a transaction while the engine is waited for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pydantic import BaseModel

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.emergency.service import require_no_stop
from registry.identity.principal import OPERATE, Principal
from registry.workspaces.engine import ContainerEngine, missing
from registry.workspaces.errors import ImageNotBuilt, WorkspaceNotRunning
from registry.workspaces.service import MANAGE, READ, WorkspaceService
from workspace_runtime.inside.ends import reason_in
from workspace_runtime.runtime import ContainerMissing, EngineUnavailable, WorkspaceRuntimeError

MOST_OUTPUT = 1024 * 1024
"""Bytes of each stream of a command that are kept: its beginning, and as much as fits of its end."""
_END = 64 * 1024
_NOT_MADE = "It has no container yet: see its container_status."


class LogEntry(BaseModel):
    at: str | None
    stream: str
    text: str


class StatsView(BaseModel):
    """What a container uses now. `memory_limit` is 0 where there is none; `cpu_seconds` count from its start."""

    at: str
    cpu_seconds: float
    memory_bytes: int
    memory_limit: int
    pids: int


class Executed(BaseModel):
    """How a command ended.

    Args:
        reason: why it was ended, if not by itself: `memory limit`, `process limit`, `disk quota`. `stderr` then ends
            with a sentence on it.
        truncated: it said more than is kept; the middle is missing.
    """

    exit_code: int
    reason: str | None
    stdout: str
    stderr: str
    truncated: bool


@dataclass(slots=True)
class _Output:
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    left_out: int = 0

    def take(self, data: bytes) -> None:
        room = MOST_OUTPUT - _END - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if (excess := len(self.tail) - _END) > 0:
            del self.tail[:excess]
            self.left_out += excess

    @property
    def text(self) -> str:
        missing = f"\n[… {self.left_out} bytes left out …]\n".encode() if self.left_out else b""
        return (self.head + missing + self.tail).decode(errors="replace")


class Console:
    """Every method checks the principal's permission itself, and raises as `WorkspaceService.get` does.

    Beside that: `EngineMissing`, and `WorkspaceNotRunning` where there is nothing to look into.
    """

    def __init__(
        self, database: Database, workspaces: WorkspaceService, engine: ContainerEngine, audit: AuditService
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._engine = engine
        self._audit = audit

    async def logs(self, principal: Principal, workspace_id: int, tail: int) -> list[LogEntry]:
        """The last lines that its main process has logged."""
        name = await self._name(principal, workspace_id, READ)
        try:
            lines = self._engine.runtime.logs(name, tail=tail)
            return [
                LogEntry(at=line.at.isoformat() if line.at else None, stream=line.stream, text=line.text)
                async for line in lines
            ]
        except WorkspaceRuntimeError as error:
            raise _told(error) from None

    async def stats(self, principal: Principal, workspace_id: int) -> StatsView:
        name = await self._name(principal, workspace_id, READ)
        try:
            found = await self._engine.runtime.stats(name)
        except WorkspaceRuntimeError as error:
            raise _told(error) from None
        return StatsView(
            at=found.at.isoformat(),
            cpu_seconds=found.cpu_seconds,
            memory_bytes=found.memory_bytes,
            memory_limit=found.memory_limit,
            pids=found.pids,
        )

    async def run(self, principal: Principal, workspace_id: int, command: list[str], seconds: float) -> Executed:
        """Run a command in it, to its end or for so many seconds at most.

        Raises:
            WorkspaceNotRunning: it sleeps, or the command did not end in time.
            StopInForce: this door is not the data path's, so the stop is asked here.
        """
        name = await self._name(principal, workspace_id, MANAGE)
        async with self._database.transaction() as session:
            await require_no_stop(session, principal.org_id)
            target = ("workspace", str(workspace_id))
            # The arguments may hold secrets.
            await self._audit.record(session, principal, "workspaces.exec", target=target, detail={"run": command[0]})
        output = {"stdout": _Output(), "stderr": _Output()}
        try:
            async with asyncio.timeout(seconds), self._engine.runtime.exec(name, command) as execution:
                execution.write_eof()
                async for piece in execution:
                    output[piece.stream].take(piece.data)
                code = await execution.exit_code()
        except TimeoutError:
            raise WorkspaceNotRunning(f"The command did not end within {seconds:g} s, and was ended.") from None
        except WorkspaceRuntimeError as error:
            raise _told(error) from None
        out, err = output["stdout"], output["stderr"]
        return Executed(
            exit_code=code,
            reason=reason_in(err.text) if code else None,
            stdout=out.text,
            stderr=err.text,
            truncated=bool(out.left_out or err.left_out),
        )

    async def build_image(self, principal: Principal) -> str:
        """Build the image of workspaces anew; gives its tag. Raises `ImageNotBuilt`, `EngineMissing`."""
        principal.require(OPERATE)
        async with self._database.transaction() as session:
            await self._audit.record(session, principal, "workspaces.build_image")
        try:
            await self._engine.build(anew=True)
        except EngineUnavailable as error:
            raise missing(error) from None
        except WorkspaceRuntimeError as error:
            raise ImageNotBuilt(error.message) from None
        return self._engine.shape.image

    async def _name(self, principal: Principal, workspace_id: int, permission: str) -> str:
        async with self._database.reading() as session:
            found = await self._workspaces.find(session, principal, workspace_id, permission)
        return self._engine.shape.name_of(found.id)


def _told(error: WorkspaceRuntimeError) -> Exception:
    if isinstance(error, EngineUnavailable):
        return missing(error)
    return WorkspaceNotRunning(_NOT_MADE if isinstance(error, ContainerMissing) else error.message)
