"""What is told of incidents."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class SecretStopped(Event):
    """A call would have carried a stored secret of one server (`owner_id`) to another."""

    org_id: str
    subject: str
    tool: str
    server_id: str
    owner_id: str
