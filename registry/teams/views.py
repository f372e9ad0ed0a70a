"""Teams as callers see them. REST and MCP tools show the same."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

TeamRole = Literal["lead", "member"]


class MemberView(BaseModel):
    user_id: str
    email: str
    name: str
    role: TeamRole
    joined_at: datetime


class TeamView(BaseModel):
    id: str
    name: str
    description: str
    member_count: int
    created_at: datetime
    updated_at: datetime


class TeamDetail(TeamView):
    members: list[MemberView] = Field(description="By the time they joined.")


class TeamsView(BaseModel):
    teams: list[TeamView]
    total: int
    limit: int
    offset: int
