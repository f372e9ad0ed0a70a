"""Tools for one's own sign-ins: `sessions_list`, `sessions_end`, and what applications were granted: `grants_…`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.identity.stays import Stays
from registry.oauth.service import OAuthService

SEE = "keys:read"
END = "keys:manage"
"""What seeing and ending one's own keys takes: a program that may do neither has no business with the sign-ins."""


class ListThem(Arguments):
    pass


class OneSession(Arguments):
    id: str = Field(description="Of the session.")


class OneGrant(Arguments):
    id: str = Field(description="Of the grant.")


class SessionView(BaseModel):
    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class SessionsView(BaseModel):
    sessions: list[SessionView]


class GrantView(BaseModel):
    """Args: address: the path that the application may use."""

    id: str
    client_name: str
    scopes: list[str]
    address: str
    created_at: datetime
    expires_at: datetime


class GrantsView(BaseModel):
    grants: list[GrantView]


class Ended(BaseModel):
    id: str
    ended: bool = True


class SignInTools:
    def __init__(self, database: Database, stays: Stays, oauth: OAuthService) -> None:
        self._database = database
        self._stays = stays
        self._oauth = oauth

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "sessions_list",
                "List one's sessions",
                "List the login sessions of the user whose credential this is.",
                SEE,
                ListThem,
                self._sessions,
                read_only=True,
            ),
            Tool(
                "sessions_end",
                "End a session",
                "End one of one's own login sessions, with all its tokens.",
                END,
                OneSession,
                self._end_session,
                destructive=True,
            ),
            Tool(
                "grants_list",
                "List what applications may do",
                "List the applications that one has let act for oneself, and what they may do.",
                SEE,
                ListThem,
                self._grants,
                read_only=True,
            ),
            Tool(
                "grants_end",
                "Take back a grant",
                "Take back what an application was granted: its tokens end at once.",
                END,
                OneGrant,
                self._end_grant,
                destructive=True,
            ),
        ]

    async def _sessions(self, principal: Principal, _wanted: ListThem) -> SessionsView:
        async with self._database.reading() as session:
            found = await self._stays.list(session, principal)
            return SessionsView(sessions=[SessionView.model_validate(one, from_attributes=True) for one in found])

    async def _end_session(self, principal: Principal, wanted: OneSession) -> Ended:
        async with self._database.transaction() as session:
            return Ended(id=(await self._stays.end(session, principal, wanted.id)).id)

    async def _grants(self, principal: Principal, _wanted: ListThem) -> GrantsView:
        async with self._database.reading() as session:
            return GrantsView(
                grants=[
                    GrantView(
                        id=one.id,
                        client_name=one.client_name,
                        scopes=one.scopes,
                        address=one.audience,
                        created_at=one.created_at,
                        expires_at=one.expires_at,
                    )
                    for one in await self._oauth.grants(session, principal)
                ]
            )

    async def _end_grant(self, principal: Principal, wanted: OneGrant) -> Ended:
        async with self._database.transaction() as session:
            await self._oauth.end_grant(session, principal, wanted.id)
        return Ended(id=wanted.id)
