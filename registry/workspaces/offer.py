"""What workspaces offer to agents: the tools of the server inside, the same in each, known without asking.

`offers` is what the data path's catalog is made of, so that a workspace's tools are listed while it sleeps.
"""

from __future__ import annotations

import functools
import json

from registry.core.db import Session
from registry.servers.connection import Connection, Deadlines, Offered, ServerOffer
from registry.workspaces import queries
from registry.workspaces.models import Workspace
from registry.workspaces.names import server_id_of
from registry.workspaces.views import ToolView
from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.git import Git
from workspace_runtime.inside.main import all_tools
from workspace_runtime.inside.shell import Shell
from workspace_runtime.inside.tool import Tool

DEADLINES = Deadlines(connect=35.0, first_byte=660.0, idle=660.0, total=3600.0)
"""A call may wait for its workspace to wake, and then run a build."""
_INSTRUCTIONS = (
    "A workspace of its own: files under /workspace, git and a shell, kept between calls and while it sleeps. "
    "The first call to a sleeping workspace takes a few seconds."
)


@functools.cache
def _tools() -> list[Tool]:
    # Tools belong to a folder, which matters to calls alone.
    root = Beneath("/")
    try:
        return all_tools(root, Git(root, {}), Shell(root, {}))
    finally:
        root.close()


@functools.cache
def offered() -> tuple[Offered, ...]:
    """The definitions of the tools."""
    return tuple(Offered("tool", tool.name, json.dumps(tool.definition(), separators=(",", ":"))) for tool in _tools())


def tools_offered() -> list[ToolView]:
    """Name and description of each tool."""
    return [ToolView(name=tool.name, description=tool.description) for tool in _tools()]


async def offers(session: Session, org_id: str | None = None) -> list[ServerOffer]:
    """Every workspace as a server of its owner's, of one organisation or of all."""
    return [_offer(workspace) for workspace in await queries.live(session, org_id)]


def _offer(workspace: Workspace) -> ServerOffer:
    connection = Connection(
        server_id=server_id_of(workspace.id),
        org_id=workspace.org_id,
        slug=workspace.slug,
        transport="streamable-http",
        deadlines=DEADLINES,
        era="modern",
        workspace_id=workspace.id,
    )
    return ServerOffer(
        connection=connection,
        name=workspace.name,
        public=False,
        price_usd=None,
        server_metadata={"capabilities": {"tools": {}}, "instructions": _INSTRUCTIONS},
        offered=offered(),
        owner_user_id=workspace.user_id,
    )
