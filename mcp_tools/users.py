"""Tools for the users of an organisation: `users_list`, `users_get`, `users_update`, `users_deactivate`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.directory import Directory, UserFilter
from registry.identity.models import User
from registry.identity.permissions import OTHERS
from registry.identity.principal import Principal

READ = "users:read"


class ListUsers(Arguments):
    role: str | None = Field(None, max_length=32)
    is_active: bool | None = None
    search: str | None = Field(None, max_length=320, description="Part of the email or the name.")
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0)


class OneUser(Arguments):
    id: str = Field(description="Of the user.")


class UpdateUser(OneUser):
    role: str | None = Field(None, max_length=32, description="admin, manager, user, viewer or agent.")
    is_active: bool | None = None
    full_name: str | None = Field(None, max_length=200)
    email: str | None = Field(None, max_length=320)


class UserView(BaseModel):
    id: str
    email: str
    full_name: str
    role: str
    is_active: bool
    created_at: datetime
    last_login_at: datetime | None


class UsersPage(BaseModel):
    users: list[UserView]
    total: int


class UserTools:
    def __init__(self, database: Database, directory: Directory) -> None:
        self._database = database
        self._directory = directory

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "users_list",
                "List users",
                "List the users of the organisation, with their roles.",
                READ,
                ListUsers,
                self._list,
                read_only=True,
            ),
            Tool("users_get", "Show a user", "Show one user.", READ, OneUser, self._get, read_only=True),
            Tool(
                "users_update",
                "Change a user",
                "Change a user's role or profile. A role takes effect at once, for all their credentials.",
                OTHERS,
                UpdateUser,
                self._update,
                idempotent=True,
            ),
            Tool(
                "users_deactivate",
                "Deactivate a user",
                "Take away a user's access at once: their credentials end, and their workspaces are stopped.",
                OTHERS,
                OneUser,
                self._deactivate,
                destructive=True,
                idempotent=True,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListUsers) -> UsersPage:
        which = UserFilter(role=wanted.role, is_active=wanted.is_active, search=wanted.search)
        async with self._database.reading() as session:
            found, total = await self._directory.page(
                session, principal, which, limit=wanted.limit, offset=wanted.offset
            )
            return UsersPage(users=[_view(user) for user in found], total=total)

    async def _get(self, principal: Principal, wanted: OneUser) -> UserView:
        async with self._database.reading() as session:
            return _view(await self._directory.get(session, principal, wanted.id))

    async def _update(self, principal: Principal, wanted: UpdateUser) -> UserView:
        changes = wanted.model_dump(exclude={"id"}, exclude_none=True)
        async with self._database.transaction() as session:
            return _view(await self._directory.update(session, principal, wanted.id, changes))

    async def _deactivate(self, principal: Principal, wanted: OneUser) -> UserView:
        async with self._database.transaction() as session:
            return _view(await self._directory.deactivate(session, principal, wanted.id))


def _view(user: User) -> UserView:
    return UserView(
        id=user.id,
        email=user.email,
        full_name=user.name,
        role=user.role,
        is_active=user.is_active,
        created_at=user.created_at,
        last_login_at=user.last_login_at,
    )
