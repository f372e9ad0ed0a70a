"""What identity tells the rest of the process."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class CredentialsChanged(Event):
    """A credential was revoked, or what a user may do has changed: nothing remembered about them holds any more.

    `key_id` is `None` where every credential of the user is concerned.
    """

    org_id: str
    user_id: str
    key_id: int | None
