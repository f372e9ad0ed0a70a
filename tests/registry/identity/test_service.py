"""Credentials, logins and keys, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from registry.core.events import EventBus
from registry.identity.events import CredentialsChanged
from registry.identity.models import ApiKey, LoginSession, User
from registry.identity.organizations import OrganizationService
from registry.identity.permissions import AGENT, PERMISSIONS, ROLES, role_named
from registry.identity.principal import OPERATE, Principal
from registry.identity.service import SESSION_LIFETIME, IdentityService
from tests.support.attacks import attack
from tests.support.clock import SettableClock
from tests.support.identity import PASSWORD, Person, add_key, add_organization, add_user, make_service


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def service(clock: SettableClock) -> IdentityService:
    return make_service(clock)


@pytest.fixture
async def admin(database: Database, clock: SettableClock) -> Person:
    org = await add_organization(database, clock, "acme")
    return await add_user(database, clock, org, "admin@acme.test", role="admin", password=PASSWORD)


@pytest.fixture
async def member(database: Database, clock: SettableClock, admin: Person) -> Person:
    return await add_user(database, clock, admin.principal.org_id, "member@acme.test")


@pytest.fixture
async def stranger(database: Database, clock: SettableClock) -> Person:
    org = await add_organization(database, clock, "other")
    return await add_user(database, clock, org, "admin@other.test", role="admin")


async def _by_key(database: Database, service: IdentityService, text: str) -> Principal:
    async with database.reading() as session:
        return await service.authenticate_key(session, text)


def test_roles_hold_only_known_permissions_and_never_operate() -> None:
    for permissions in ROLES.values():
        assert permissions <= PERMISSIONS.keys()
        assert OPERATE not in permissions
    assert ROLES["viewer"] | ROLES["agent"] <= ROLES["user"] < ROLES["manager"] < ROLES["admin"]
    assert not any(name.endswith((":manage", ":create", ":update", ":delete", ":decide")) for name in AGENT)
    assert role_named("engineer") == role_named("developer") == "user"
    with pytest.raises(Invalid):
        role_named("root")


async def test_a_key_becomes_its_owner(database: Database, service: IdentityService, admin: Person) -> None:
    key_id, text = await add_key(database, service, admin)
    principal = await _by_key(database, service, text)
    assert (principal.org_id, principal.user_id, principal.key_id) == (admin.user.org_id, admin.user.id, key_id)
    assert principal.permissions == ROLES["admin"]
    assert principal.role == "admin"


async def test_a_key_narrows_its_owner_and_follows_them_down(
    database: Database, service: IdentityService, admin: Person, member: Person
) -> None:
    _, text = await add_key(database, service, admin, permissions=["mcp:tools:call", "users:manage"], tools=["git__*"])
    principal = await _by_key(database, service, text)
    assert principal.permissions == {"mcp:tools:call", "users:manage"}
    assert principal.may_use("git__status")
    assert not principal.may_use("files__read")
    async with database.transaction() as session:
        (await session.get_one(User, admin.user.id)).role = "user"
    assert (await _by_key(database, service, text)).permissions == {"mcp:tools:call"}


@attack(18)
async def test_what_is_stored_of_a_key_does_not_open(
    database: Database, service: IdentityService, admin: Person
) -> None:
    key_id, text = await add_key(database, service, admin)
    async with database.reading() as session:
        stored = await session.get_one(ApiKey, key_id)
        prefix, digest = stored.prefix, stored.secret_hash
    secret = text.split("_", 2)[2]
    assert secret not in {digest, prefix}
    for wrong in (f"mcp_{prefix}_{digest}", text[:-1], text + "x", f"mcp_unknown1_{secret}", ""):
        with pytest.raises(Unauthenticated, match="not valid"):
            await _by_key(database, service, wrong)


@attack(18)
async def test_a_revoked_key_opens_nothing_and_says_so_to_others(
    database: Database, service: IdentityService, admin: Person, events: EventBus
) -> None:
    heard: list[CredentialsChanged] = []
    events.subscribe(CredentialsChanged, heard.append)
    key_id, text = await add_key(database, service, admin)
    async with database.transaction() as session:
        await service.revoke_key(session, admin.principal, key_id)
        assert heard == []
    assert heard == [CredentialsChanged(admin.user.org_id, admin.user.id, key_id)]
    with pytest.raises(Unauthenticated):
        await _by_key(database, service, text)
    async with database.transaction() as session:
        with pytest.raises(NotFound):
            await service.revoke_key(session, admin.principal, key_id)


@attack(18)
async def test_an_expired_key_opens_nothing(
    database: Database, service: IdentityService, admin: Person, clock: SettableClock
) -> None:
    _, text = await add_key(database, service, admin, expires_at=clock.now() + timedelta(hours=1))
    await _by_key(database, service, text)
    clock.advance(3600)
    with pytest.raises(Unauthenticated):
        await _by_key(database, service, text)


async def test_keys_of_an_inactive_user_open_nothing(
    database: Database, service: IdentityService, admin: Person, member: Person, events: EventBus
) -> None:
    heard: list[CredentialsChanged] = []
    events.subscribe(CredentialsChanged, heard.append)
    _, text = await add_key(database, service, member)
    async with database.transaction() as session:
        await service.change_user(session, admin.principal, member.user.id, is_active=False)
    assert heard == [CredentialsChanged(member.user.org_id, member.user.id, None)]
    with pytest.raises(Unauthenticated):
        await _by_key(database, service, text)


async def test_no_key_gets_more_than_its_maker_has(
    database: Database, service: IdentityService, admin: Person, member: Person, clock: SettableClock
) -> None:
    _, text = await add_key(
        database,
        service,
        admin,
        permissions=["keys:manage", "mcp:tools:call", "users:manage", "users:read"],
        tools=["git__*"],
        expires_at=clock.now() + timedelta(hours=1),
    )
    narrow = await _by_key(database, service, text)
    soon = clock.now() + timedelta(minutes=5)
    async with database.transaction() as session:
        with pytest.raises(Forbidden, match="audit:read"):
            await service.create_key(session, narrow, name="x", permissions=["audit:read"], expires_at=soon)
        with pytest.raises(Forbidden, match="files__read"):
            await service.create_key(session, narrow, name="x", tools=["files__read"], expires_at=soon)
        with pytest.raises(Forbidden, match="git__s"):
            await service.create_key(session, narrow, name="x", tools=["git__s*", "*"], expires_at=soon)
        with pytest.raises(Forbidden, match="outlives"):
            await service.create_key(session, narrow, name="x")
        inherited = await service.create_key(session, narrow, name="x", expires_at=soon)
        foreign = await service.create_key(session, narrow, name="x", user_id=member.user.id, expires_at=soon)
    child = await _by_key(database, service, inherited.text)
    assert (child.permissions, child.tools) == (narrow.permissions, narrow.tools)
    # The maker knows the secret, so a later promotion of the owner must not reach it.
    async with database.transaction() as session:
        (await session.get_one(User, member.user.id)).role = "admin"
    assert (await _by_key(database, service, foreign.text)).permissions == {"keys:manage", "mcp:tools:call"}


async def test_bad_narrowing_is_refused(
    database: Database, service: IdentityService, admin: Person, clock: SettableClock
) -> None:
    async with database.transaction() as session:
        with pytest.raises(Invalid, match="nonsense"):
            await service.create_key(session, admin.principal, name="x", permissions=["nonsense"])
        with pytest.raises(Invalid, match="past"):
            await service.create_key(session, admin.principal, name="x", expires_at=clock.now())
        with pytest.raises(Invalid):
            await service.create_key(session, admin.principal, name="x", tools=[""])
        with pytest.raises(Forbidden):
            # An organisation's admin is no operator.
            await service.create_key(session, admin.principal, name="x", permissions=[OPERATE])


async def test_keys_are_seen_by_their_owner_and_those_who_manage_users(
    database: Database, service: IdentityService, admin: Person, member: Person, stranger: Person
) -> None:
    admins, _ = await add_key(database, service, admin)
    members, _ = await add_key(database, service, member)
    strangers, _ = await add_key(database, service, stranger)
    for person, visible in ((admin, [admins, members]), (member, [members]), (stranger, [strangers])):
        async with database.reading() as session:
            found, total = await service.keys(session, person.principal)
            assert [key.id for key in found] == visible
        assert total == len(visible)
    async with database.transaction() as session:
        with pytest.raises(Forbidden):
            await service.revoke_key(session, member.principal, admins)
    for person, key_id in ((stranger, admins), (admin, strangers), (admin, 10**12), (admin, -1)):
        async with database.transaction() as session:
            with pytest.raises(NotFound, match="API key not found"):
                await service.revoke_key(session, person.principal, key_id)
    async with database.transaction() as session:
        with pytest.raises(NotFound):
            await service.create_key(session, admin.principal, name="x", user_id=stranger.user.id)
        with pytest.raises(Forbidden):
            await service.create_key(session, member.principal, name="x", user_id=admin.user.id)


async def test_login_gives_a_session_and_a_token_of_one_person(
    database: Database, service: IdentityService, admin: Person, clock: SettableClock
) -> None:
    async with database.reading() as session:
        user_id = (await service.check_password(session, "ADMIN@acme.test", PASSWORD)).id
    async with database.transaction() as session:
        login = await service.open_session(session, user_id)
    async with database.reading() as session:
        by_session = await service.authenticate_session(session, login.session_id)
        by_token = await service.authenticate_token(session, login.access_token)
        assert (await session.scalars(select(LoginSession))).one().token_hash not in login.session_id
    assert by_session == by_token == login.principal
    assert by_session.user_id == admin.user.id
    assert login.user.last_login_at == clock.now()
    assert login.session_id not in repr(login)
    assert login.access_token not in repr(login)
    clock.advance(SESSION_LIFETIME.total_seconds())
    async with database.reading() as session:
        with pytest.raises(Unauthenticated):
            await service.authenticate_session(session, login.session_id)


@pytest.mark.parametrize(
    ("email", "password"), [("nobody@acme.test", PASSWORD), ("admin@acme.test", "wrong"), ("", "")]
)
async def test_a_failed_login_does_not_say_why(
    database: Database, service: IdentityService, admin: Person, email: str, password: str
) -> None:
    async with database.reading() as session:
        with pytest.raises(Unauthenticated) as caught:
            await service.check_password(session, email, password)
    assert caught.value.message == "Email or password is wrong."


async def test_closing_a_session_ends_its_tokens(database: Database, service: IdentityService, admin: Person) -> None:
    async with database.transaction() as session:
        login = await service.open_session(session, admin.user.id)
    async with database.transaction() as session:
        await service.close_session(session, login.principal)
    async with database.reading() as session:
        with pytest.raises(Unauthenticated):
            await service.authenticate_session(session, login.session_id)
        with pytest.raises(Unauthenticated):
            await service.authenticate_token(session, login.access_token)


async def test_a_token_opens_nothing_once_its_user_is_dismissed(
    database: Database, service: IdentityService, admin: Person, member: Person
) -> None:
    async with database.transaction() as session:
        login = await service.open_session(session, member.user.id)
        await service.change_user(session, admin.principal, member.user.id, is_active=False)
    async with database.reading() as session:
        with pytest.raises(Unauthenticated):
            await service.authenticate_token(session, login.access_token)


async def test_a_role_changes_at_once_and_nobody_rises_by_themselves(
    database: Database, service: IdentityService, admin: Person, member: Person, stranger: Person, clock: SettableClock
) -> None:
    async with database.transaction() as session:
        await service.change_user(session, admin.principal, member.user.id, role="manager")
    _, text = await add_key(database, service, member)
    assert (await _by_key(database, service, text)).permissions <= ROLES["manager"]
    operator = await add_user(database, clock, admin.user.org_id, "op@acme.test", role="admin", is_operator=True)
    attempts = [
        (member.principal, admin.user.id, Forbidden),
        (admin.principal, admin.user.id, Forbidden),
        (admin.principal, operator.user.id, Forbidden),
        (stranger.principal, member.user.id, NotFound),
        (admin.principal, "not-a-uuid", NotFound),
    ]
    for principal, target, error in attempts:
        async with database.transaction() as session:
            with pytest.raises(error):
                await service.change_user(session, principal, target, role="viewer")


async def test_the_last_admin_stays(database: Database, service: IdentityService, clock: SettableClock) -> None:
    org = await add_organization(database, clock, "lone")
    lone = await add_user(database, clock, org, "lone@lone.test", role="admin")
    deputy = await add_user(database, clock, org, "deputy@lone.test", role="admin", is_operator=True)
    async with database.transaction() as session:
        (await session.get_one(User, deputy.user.id)).is_active = False
    async with database.transaction() as session:
        with pytest.raises(Conflict):
            await service.change_user(session, deputy.principal, lone.user.id, role="user")
        with pytest.raises(Conflict):
            await service.change_user(session, deputy.principal, lone.user.id, is_active=False)


async def test_organisations_are_one_s_own_and_an_operator_s_all(
    database: Database, admin: Person, member: Person, stranger: Person, clock: SettableClock
) -> None:
    operator = await add_user(database, clock, admin.user.org_id, "op@acme.test", role="admin", is_operator=True)
    organizations = OrganizationService(clock, AuditService(clock))
    async with database.reading() as session:
        assert [o.id for o in await organizations.list(session, member.principal)] == [admin.user.org_id]
        assert len(await organizations.list(session, operator.principal)) == 2
        _, seen = await organizations.get(session, member.principal, admin.user.org_id)
        assert [user.id for user in seen] == [member.user.id]
        _, seen = await organizations.get(session, admin.principal, admin.user.org_id)
        assert len(seen) == 3
        _, seen = await organizations.get(session, operator.principal, stranger.user.org_id)
        assert [user.id for user in seen] == [stranger.user.id]
        for org_id in (stranger.user.org_id, "00000000-0000-4000-8000-000000000000", "x"):
            with pytest.raises(NotFound, match="Organization not found"):
                await organizations.get(session, admin.principal, org_id)


async def test_changes_are_audited(database: Database, service: IdentityService, admin: Person) -> None:
    key_id, _ = await add_key(database, service, admin)
    async with database.transaction() as session:
        await service.revoke_key(session, admin.principal, key_id)
    async with database.reading() as session:
        entries = (await session.scalars(select(AuditEntry))).all()
        recorded = {(entry.action, entry.target_id, entry.user_id) for entry in entries}
    assert recorded == {
        ("keys.create", str(key_id), admin.user.id),
        ("keys.revoke", str(key_id), admin.user.id),
    }
