"""A set as callers see it; REST and MCP tools show the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from registry.sets.models import ToolSet
from registry.sets.resolve import What
from registry.sets.service import Contents


class SetView(BaseModel):
    slug: str
    name: str
    description: str | None
    public: bool
    path: str
    members: list[dict[str, Any]]
    org_id: str
    created_at: datetime
    updated_at: datetime


class OfferedView(BaseModel):
    """One thing that the set offers: its name there, and where it comes from."""

    name: str
    server: str
    original: str


class MissingView(BaseModel):
    """One thing that the set names in vain."""

    what: What
    server: str
    name: str | None
    reason: str


class SetDetail(SetView):
    tools: list[OfferedView]
    resources: list[OfferedView]
    resource_templates: list[OfferedView]
    prompts: list[OfferedView]
    missing: list[MissingView]


def set_view(made: ToolSet) -> SetView:
    return SetView(
        slug=made.slug,
        name=made.name,
        description=made.description,
        public=made.public,
        path=f"/sets/{made.slug}/mcp",
        members=made.members,
        org_id=made.org_id,
        created_at=made.created_at,
        updated_at=made.updated_at,
    )


def set_detail(made: ToolSet, contents: Contents) -> SetDetail:
    offered: dict[str, list[OfferedView]] = {"tool": [], "resource": [], "template": [], "prompt": []}
    for chosen in contents.chosen:
        offered[chosen.kind].append(OfferedView(name=chosen.exposed, server=chosen.server, original=chosen.name))
    return SetDetail(
        **set_view(made).model_dump(),
        tools=offered["tool"],
        resources=offered["resource"],
        resource_templates=offered["template"],
        prompts=offered["prompt"],
        missing=[
            MissingView(what=item.what, server=item.server, name=item.name, reason=item.reason)
            for item in contents.missing
        ],
    )
