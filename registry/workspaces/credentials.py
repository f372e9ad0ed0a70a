"""Credentials for the remotes of git: kept sealed for their person, and lent to that person's own calls.

The gateway puts them into a call of `git_clone`, `git_fetch` or `git_push` on its way into the workspace, where git is
given them in memory (`workspace_runtime.inside.git`). Calls of others to the same workspace, administrators too, go
without. What runs in a workspace meanwhile runs as the same user and may look: keep tokens that may do little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, as_uuid
from registry.core.security import Sealer
from registry.identity.principal import Principal
from registry.workspaces.errors import CredentialNotFound, WorkspaceForbidden, WorkspaceInvalid
from registry.workspaces.models import GitCredential, Workspace
from registry.workspaces.service import MANAGE, READ
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.git import origin

MOST = 50
"""Remotes that one user may have credentials for."""


@dataclass(frozen=True, slots=True)
class GivenCredential:
    """Args:
    url: of the remote, or of anything at the same origin: scheme, host and port are what counts.
    """

    url: str
    username: str
    password: str


class Lent(msgspec.Struct):
    """A credential in the clear, as the server inside takes it; never logged or stored."""

    url: str
    username: str
    password: str


class CredentialBook:
    """Everybody has their own; nobody reads another's."""

    def __init__(self, clock: Clock, audit: AuditService, master: bytes) -> None:
        self._clock = clock
        self._audit = audit
        self._sealer = Sealer(master, "git-credentials")

    async def keep(self, session: Session, principal: Principal, given: GivenCredential) -> GitCredential:
        """Keep a credential, in the place of one that the caller has for that origin.

        Raises:
            WorkspaceInvalid: it cannot be sent there safely, it has line ends, or there are `MOST` already.
        """
        principal.require(MANAGE)
        if not principal.user_id:
            raise WorkspaceForbidden
        place = _origin(given)
        found = list(await self.of(session, principal))
        kept = next((one for one in found if one.origin == place), None)
        if kept is None:
            if len(found) >= MOST:
                raise WorkspaceInvalid(f"You have credentials for {MOST} remotes: remove one first.", field="url")
            kept = GitCredential(user_id=principal.user_id, origin=place)
            session.add(kept)
        kept.username, kept.updated_at = given.username, self._clock.now()
        kept.sealed = self._sealer.seal(given.password.encode(), _place(principal.user_id, place))
        await session.flush()
        await self._note(session, principal, "credential_keep", kept)
        return kept

    async def of(self, session: Session, principal: Principal) -> Sequence[GitCredential]:
        """The caller's, by origin."""
        principal.require(READ)
        if not principal.user_id:
            return ()
        mine = select(GitCredential).where(GitCredential.user_id == principal.user_id).order_by(GitCredential.origin)
        return (await session.scalars(mine)).all()

    async def forget(self, session: Session, principal: Principal, credential_id: str) -> None:
        """Raises `CredentialNotFound`: the caller has none of that id."""
        principal.require(MANAGE)
        mine = select(GitCredential).where(GitCredential.user_id == principal.user_id)
        found = await session.scalar(mine.where(GitCredential.id == as_uuid(credential_id)))
        if found is None:
            raise CredentialNotFound
        await session.delete(found)
        await self._note(session, principal, "credential_forget", found)

    async def lend(self, session: Session, workspace_id: int, user_id: str | None) -> list[Lent]:
        """What a call by this user takes along into the workspace: nothing, unless it is theirs."""
        workspace = await session.get(Workspace, workspace_id)
        if workspace is None or user_id is None or workspace.user_id != user_id:
            return []
        kept = await session.scalars(select(GitCredential).where(GitCredential.user_id == user_id))
        return [
            Lent(one.origin, one.username, self._sealer.open(one.sealed, _place(user_id, one.origin)).decode())
            for one in kept
        ]

    async def _note(self, session: Session, principal: Principal, verb: str, kept: GitCredential) -> None:
        detail = {"origin": kept.origin, "username": kept.username}
        await self._audit.record(
            session, principal, f"workspaces.{verb}", target=("git_credential", kept.id), detail=detail
        )


def _origin(given: GivenCredential) -> str:
    if any(letter in given.username + given.password for letter in "\n\r\0"):
        raise WorkspaceInvalid("A username or password cannot hold a line end.", field="password")
    try:
        place = origin(given.url.strip()).lower()
    except (ToolFailure, ValueError):
        raise WorkspaceInvalid(
            f"{given.url!r} is no address that credentials can be sent to: use https://host.", field="url"
        ) from None
    if place.endswith("://") or any(letter in place for letter in "= \n\r\t'\"\\"):
        raise WorkspaceInvalid(f"{given.url!r} names no host: use https://host.", field="url")
    return place


def _place(user_id: str, place: str) -> str:
    return f"{user_id}/{place}"
