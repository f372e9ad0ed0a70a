"""What workspaces tell the rest of the process."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class WorkspaceWanted(Event):
    """What is wanted of a workspace has changed: the engine must follow."""

    workspace_id: int
