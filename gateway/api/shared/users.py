"""Users under `/api/v1`, which the Workspaces and the Operations API both have: one body serves both.

Sources: `octoprox.md`, Users; `opssight.md`, User Management. Deactivating is the Workspaces API's alone, and is here
so that users are in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.identity.directory import Directory, UserFilter, username_of
from registry.identity.models import ApiKey, User
from registry.identity.service import KEY_MARK, IdentityService
from registry.workspaces.service import WorkspaceService
from registry.workspaces.views import EndpointOf, WorkspaceView, workspace_view

USERS = Limit("users-api", 200, 60, "address")
"""The more generous of the two documents' limits: 200 a minute, beside 1000 an hour."""
PER_PAGE = 20
LIMIT = 10
"""How many each document's envelope shows where nobody says."""
MOST_KEYS = 1000


class UserView(BaseModel):
    """A user with the fields of both documents."""

    id: str
    username: str
    email: str
    full_name: str
    avatar_url: str | None
    role: str
    is_active: bool
    created_at: datetime
    updated_at: datetime
    nexusgate_user_id: str | None
    nexusgate_role: str | None
    last_synced_at: datetime | None


class KeyView(BaseModel):
    id: int
    name: str
    prefix: str
    user_id: str
    created_at: datetime
    last_used_at: datetime | None
    nexusgate_token_id: str | None
    expires_at: datetime | None


class UserDetail(UserView):
    """`github_id` and `teams` are the Operations API's; nothing fills them yet."""

    github_id: int | None = None
    teams: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    workspaces: list[WorkspaceView]
    api_keys: list[KeyView]


class UserAnswer(UserView):
    """Flat, and the same under `data`."""

    data: UserView


class DetailAnswer(UserDetail):
    data: UserDetail


class UsersData(BaseModel):
    users: list[UserView]


class UsersMeta(BaseModel):
    page: int
    per_page: int
    total: int


class UsersAnswer(BaseModel):
    """Both envelopes. Where nobody asks for a page, each shows as many as its own document says."""

    data: UsersData
    meta: UsersMeta
    users: list[UserView]
    total: int
    skip: int
    limit: int


class UpdateBody(BaseModel):
    """What is left out stays as it is; what is linked with another system may be taken away by `null`."""

    role: str | None = Field(None, max_length=32)
    is_active: bool | None = None
    nexusgate_user_id: str | None = Field(None, max_length=200)
    nexusgate_role: str | None = Field(None, max_length=64)
    full_name: str | None = Field(None, max_length=200)
    email: str | None = Field(None, max_length=320)
    avatar_url: str | None = Field(None, max_length=2000, pattern=r"^https?://")

    def changes(self) -> dict[str, Any]:
        given = self.model_dump(exclude_unset=True)
        clearable = ("nexusgate_user_id", "nexusgate_role", "avatar_url")
        return {name: value for name, value in given.items() if value is not None or name in clearable}


Number = Annotated[int | None, Query(ge=1, le=1_000_000)]
Amount = Annotated[int | None, Query(ge=1, le=100)]
Skip = Annotated[int | None, Query(ge=0, le=1_000_000_000)]


def router(
    front: Front,
    directory: Directory,
    identity: IdentityService,
    workspaces: WorkspaceService,
    endpoint_of: EndpointOf,
) -> APIRouter:
    api = front.router(tags=["Users"], limit=USERS)

    @api.get("/api/v1/users")
    async def list_users(
        session: Session,
        caller: Caller,
        page: Number = None,
        per_page: Amount = None,
        status: Literal["active", "inactive"] | None = None,
        role: Annotated[str | None, Query(max_length=32)] = None,
        skip: Skip = None,
        limit: Amount = None,
        search: Annotated[str | None, Query(max_length=320)] = None,
        is_active: bool | None = None,
    ) -> UsersAnswer:
        active = is_active if status is None else status == "active"
        window = _window(page, per_page, skip, limit)
        wanted = UserFilter(role=role, is_active=active, search=search)
        found, total = await directory.page(session, caller, wanted, limit=window.amount, offset=window.offset)
        views = [user_view(user) for user in found]
        return UsersAnswer(
            data=UsersData(users=views),
            meta=UsersMeta(page=window.offset // window.amount + 1, per_page=window.amount, total=total),
            users=views[: window.shown],
            total=total,
            skip=window.offset,
            limit=window.shown,
        )

    @api.get("/api/v1/users/{user_id}")
    async def get_user(user_id: str, session: Session, caller: Caller) -> DetailAnswer:
        user = await directory.get(session, caller, user_id)
        own = [workspace_view(row, endpoint_of) for row in await workspaces.of_user(session, caller, user.id)]
        keys: list[ApiKey] = []
        if caller.may("keys:read"):
            keys, _ = await identity.keys(session, caller, user_id=user.id, limit=MOST_KEYS)
        detail = UserDetail(**user_view(user).model_dump(), workspaces=own, api_keys=[key_view(key) for key in keys])
        return DetailAnswer(**detail.model_dump(), data=detail)

    @api.put("/api/v1/users/{user_id}")
    async def update_user(user_id: str, body: UpdateBody, session: Session, caller: Caller) -> UserAnswer:
        view = user_view(await directory.update(session, caller, user_id, body.changes()))
        return UserAnswer(**view.model_dump(), data=view)

    @api.delete("/api/v1/users/{user_id}", status_code=204)
    async def deactivate_user(user_id: str, session: Session, caller: Caller) -> None:
        """Their credentials end at once, and their workspaces are stopped."""
        await directory.deactivate(session, caller, user_id)

    return api


@dataclass(frozen=True, slots=True)
class _Window:
    """Which users to read.

    Args:
        shown: how many of them the Operations API's envelope has.
    """

    offset: int
    amount: int
    shown: int


def _window(page: int | None, per_page: int | None, skip: int | None, limit: int | None) -> _Window:
    """By one document's parameters, the other's, or by none."""
    if page is not None or per_page is not None:
        amount = per_page or PER_PAGE
        return _Window(((page or 1) - 1) * amount, amount, amount)
    if skip is not None or limit is not None:
        return _Window(skip or 0, limit or LIMIT, limit or LIMIT)
    return _Window(0, PER_PAGE, LIMIT)


def user_view(user: User) -> UserView:
    return UserView(
        id=user.id,
        username=username_of(user.email),
        email=user.email,
        full_name=user.name,
        avatar_url=user.picture,
        role=user.role,
        is_active=user.is_active,
        created_at=user.created_at,
        updated_at=user.updated_at,
        nexusgate_user_id=user.nexusgate_user_id,
        nexusgate_role=user.nexusgate_role,
        last_synced_at=user.last_synced_at,
    )


def key_view(key: ApiKey) -> KeyView:
    """A key as the document shows it; what it is checked by is never shown."""
    return KeyView.model_validate(
        {name: getattr(key, name) for name in KeyView.model_fields} | {"prefix": KEY_MARK + key.prefix}
    )
