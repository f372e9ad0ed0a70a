"""The first start on an empty database: an organisation, its admin and two keys, so that no setting is mandatory.

What it makes is shown once, in `DIR/first-run.txt`. Write that file inside the transaction (`FirstRun.keep`): a crash
between the two then leaves a file without effect, and never an admin whom nobody can become.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select, text

from registry.core.clock import Clock
from registry.core.db import Session, on_postgresql
from registry.core.security import ApiKeys, MintedKey, Passwords, WeakSecret, kept_secret, write_private
from registry.core.settings import DEFAULT_SECRETS
from registry.identity.models import ApiKey, Organization, User
from registry.identity.permissions import AGENT

FIRST_RUN_FILE = "first-run.txt"
OPERATOR_FILE = "operator.token"
DEFAULT_EMAIL = "admin@gatehouse.local"

_MIN_PASSWORD = 8
# Any number will do, as long as nothing else uses it.
_LOCK = 0x6761_7465_0001


@dataclass(frozen=True, slots=True)
class Preset:
    """What the operator chose beforehand (`GATEHOUSE_ADMIN_*`)."""

    email: str | None = None
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What the first run made. `None` stands for what was preset, and is not written."""

    url: str
    admin_email: str | None
    admin_password: str | None = field(repr=False)
    admin_api_key: str | None = field(repr=False)
    agent_api_key: str = field(repr=False)

    def lines(self) -> list[str]:
        names = ("url", "admin_email", "admin_password", "admin_api_key", "agent_api_key")
        return [f"{name}={value}" for name in names if (value := getattr(self, name)) is not None]

    def keep(self, data_dir: Path) -> None:
        """Write `first-run.txt` (mode 0600)."""
        write_private(data_dir / FIRST_RUN_FILE, "\n".join(self.lines()) + "\n")


async def ensure_first_run(
    session: Session, preset: Preset, *, url: str, master: bytes, clock: Clock
) -> FirstRun | None:
    """Fill an empty database; `None` if it is not empty. Processes that start at once do it once.

    Args:
        url: where clients reach the gateway.

    Raises:
        WeakSecret: a preset password or key that must not be used.
    """
    if on_postgresql(session):
        # SQLite's transactions exclude each other anyway.
        await session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    if await session.scalar(select(func.count()).select_from(Organization)):
        return None
    keys = ApiKeys(master)
    password = _checked(preset.password) if preset.password is not None else secrets.token_urlsafe(18)
    admin_key = keys.adopt(preset.api_key, "GATEHOUSE_ADMIN_API_KEY") if preset.api_key is not None else keys.mint()
    agent_key = keys.mint()
    email = (preset.email or DEFAULT_EMAIL).strip().lower()
    admin = await _add_admin(session, email, await Passwords().hash(password), clock)
    _add_key(session, admin, "admin", admin_key, None, clock)
    await session.flush()
    _add_key(session, admin, "agent", agent_key, sorted(AGENT), clock)
    await session.flush()
    return FirstRun(
        url=url,
        admin_email=None if preset.email else email,
        admin_password=None if preset.password is not None else password,
        admin_api_key=None if preset.api_key is not None else admin_key.text,
        agent_api_key=agent_key.text,
    )


def operator_token(data_dir: Path) -> str:
    """Proof of access to the machine: the content of `DIR/operator.token`, made at the first call (mode 0600)."""
    return kept_secret(data_dir / OPERATOR_FILE, lambda: secrets.token_urlsafe(32).encode()).decode().strip()


async def _add_admin(session: Session, email: str, password_hash: str, clock: Clock) -> User:
    now = clock.now()
    organization = Organization(name="Default", slug="default", created_at=now, updated_at=now)
    session.add(organization)
    await session.flush()
    admin = User(
        org_id=organization.id,
        email=email,
        name="Administrator",
        password_hash=password_hash,
        role="admin",
        email_verified=True,
        is_operator=True,
        created_at=now,
        updated_at=now,
    )
    session.add(admin)
    await session.flush()
    return admin


def _add_key(
    session: Session, owner: User, name: str, key: MintedKey, permissions: list[str] | None, clock: Clock
) -> None:
    session.add(
        ApiKey(
            user_id=owner.id,
            org_id=owner.org_id,
            name=name,
            prefix=key.prefix,
            secret_hash=key.digest,
            permissions=permissions,
            created_at=clock.now(),
        )
    )


def _checked(password: str) -> str:
    if len(password) < _MIN_PASSWORD or password.lower() in DEFAULT_SECRETS:
        raise WeakSecret(
            f"GATEHOUSE_ADMIN_PASSWORD is too weak: use {_MIN_PASSWORD} characters or more that are no common default."
        )
    return password
