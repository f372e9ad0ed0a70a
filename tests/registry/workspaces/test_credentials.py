"""Credentials for git's remotes: sealed, their person's alone, lent to that person's own calls."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.errors import Forbidden
from registry.identity.principal import Principal
from registry.workspaces import credentials
from registry.workspaces.credentials import CredentialBook, GivenCredential, Lent
from registry.workspaces.errors import CredentialNotFound, WorkspaceInvalid
from registry.workspaces.models import GitCredential
from tests.registry.workspaces.conftest import Yard
from tests.support.identity import Person

GIVEN = GivenCredential("https://Git.example.org/team/project.git", "me", "s3cret-token")


@pytest.fixture
def book(yard: Yard) -> CredentialBook:
    return CredentialBook(yard.clock, AuditService(yard.clock), b"m" * 32)


async def keep(yard: Yard, book: CredentialBook, person: Person, given: GivenCredential = GIVEN) -> GitCredential:
    async with yard.database.transaction() as session:
        return await book.keep(session, person.principal, given)


async def test_it_is_kept_for_its_origin_sealed_and_replaced(yard: Yard, book: CredentialBook, owner: Person) -> None:
    first = await keep(yard, book, owner)
    second = await keep(yard, book, owner, GivenCredential("https://git.example.org", "other", "n3w-token"))
    assert (first.id, second.origin, second.username) == (second.id, "https://git.example.org", "other")
    async with yard.database.reading() as session:
        (row,) = await session.scalars(select(GitCredential))
        entries = (await session.scalars(select(AuditEntry))).all()
    assert "n3w-token" not in row.sealed
    actions = [entry.action for entry in entries]
    assert actions == ["workspaces.credential_keep"] * 2
    assert not any("token" in str(vars(entry)) for entry in entries)


async def test_it_is_lent_to_its_person_in_their_own_workspace(
    yard: Yard, book: CredentialBook, owner: Person, admin: Person
) -> None:
    mine, theirs = await yard.create(owner, "mine"), await yard.create(admin, "theirs")
    await keep(yard, book, owner)
    async with yard.database.reading() as session:
        lent = await book.lend(session, mine.id, owner.user.id)
        assert lent == [Lent("https://git.example.org", "me", "s3cret-token")]
        # Neither what others keep, nor to where others rule.
        for workspace, caller in ((mine, admin.user.id), (theirs, owner.user.id), (mine, None)):
            assert await book.lend(session, workspace.id, caller) == []
    await yard.lifecycle.settled()


async def test_nobody_sees_or_removes_anothers(yard: Yard, book: CredentialBook, owner: Person, admin: Person) -> None:
    kept = await keep(yard, book, owner)
    async with yard.database.transaction() as session:
        assert await book.of(session, admin.principal) == []
        for wrong in (kept.id, "nothing"):
            with pytest.raises(CredentialNotFound):
                await book.forget(session, admin.principal, wrong)
        principal = owner.principal
        looker = Principal(principal.org_id, principal.user_id, "user", frozenset({"workspaces:read"}))
        with pytest.raises(Forbidden, match="workspaces:manage"):
            await book.keep(session, looker, GIVEN)
        await book.forget(session, owner.principal, kept.id)
        assert await book.of(session, owner.principal) == []


@pytest.mark.parametrize(
    "url",
    ["http://git.example.org", "https://", "git.example.org", "ssh://git.example.org", "", "https://a'b", "https://["],
)
async def test_it_goes_to_safe_places_only(yard: Yard, book: CredentialBook, owner: Person, url: str) -> None:
    with pytest.raises(WorkspaceInvalid, match="https://host"):
        await keep(yard, book, owner, GivenCredential(url, "me", "x"))


async def test_what_cannot_be_kept_is_said(
    yard: Yard, book: CredentialBook, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkspaceInvalid, match="line end"):
        await keep(yard, book, owner, GivenCredential("https://a.test", "me", "two\nlines"))
    monkeypatch.setattr(credentials, "MOST", 1)
    await keep(yard, book, owner)
    with pytest.raises(WorkspaceInvalid, match="remove one"):
        await keep(yard, book, owner, GivenCredential("https://b.test", "me", "x"))
