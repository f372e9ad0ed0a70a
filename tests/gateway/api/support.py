"""A façade on a real database, spoken to in process over ASGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from fastapi import APIRouter

from gateway.api.application import behind_edge, create_api
from gateway.api.registry import account, api_keys, auth, organizations
from gateway.api.shared.client import ClientAddress
from gateway.api.shared.middleware import Edge
from gateway.api.shared.rate_limits import MemoryRateLimiter
from gateway.api.shared.route import Front
from gateway.auth.authenticator import Authenticator
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy
from registry.core.events import EventBus
from registry.core.idempotency import IdempotencyStore
from registry.core.settings import Settings
from registry.identity.organizations import OrganizationService
from registry.identity.service import IdentityService
from registry.identity.stays import Stays
from registry.oauth.documents import ClientDocuments
from registry.oauth.service import OAuthService
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, Person, add_key, make_service

URL = "http://127.0.0.1:8000"
Routers = Callable[[Front], Iterable[APIRouter]]


def make_settings(data_dir: Path, **changes: Any) -> Settings:
    return Settings(data_dir=data_dir, **({"rate_limits": "off"} | changes))


@dataclass
class Facade:
    """The application under test and what it stands on."""

    database: Database
    events: EventBus
    clock: SettableClock
    data_dir: Path
    identity: IdentityService = field(init=False)
    oauth: OAuthService = field(init=False)
    authenticator: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        self.identity = make_service(self.clock)
        documents = ClientDocuments(Egress(EgressPolicy()).client, self.clock)
        self.oauth = OAuthService(self.database, self.clock, AuditService(self.clock), MASTER, documents)
        self.authenticator = Authenticator(self.database, self.identity, self.events, self.clock)

    def build(self, *more: Routers, host: str = "127.0.0.1", **settings: Any) -> Edge:
        chosen = make_settings(self.data_dir, **settings)
        front = Front(
            database=self.database,
            authenticator=self.authenticator,
            idempotency=IdempotencyStore(self.clock, MASTER),
            addresses=ClientAddress(chosen.trusted_proxies),
            limiter=MemoryRateLimiter() if chosen.rate_limits == "on" else None,
            settled=_at_once,
        )
        routers = [
            auth.router(front, self.identity),
            account.public_router(front, self.identity),
            account.router(front, self.identity, self.oauth, Stays(self.clock, AuditService(self.clock))),
            organizations.router(front, OrganizationService(self.clock, AuditService(self.clock))),
            api_keys.router(front, self.identity),
            *(router for make in more for router in make(front)),
        ]
        return behind_edge(create_api(routers, version="test"), chosen, host)

    async def key_of(self, person: Person, **narrowing: Any) -> str:
        return (await add_key(self.database, self.identity, person, **narrowing))[1]


async def _at_once() -> None:
    """Nothing here follows a commit."""


def client_of(app: Edge, key: str | None = None, *, address: str = "127.0.0.1", **headers: str) -> httpx2.AsyncClient:
    """A client whose answers never raise, and to which an escaping exception is a failure of the test."""
    if key:
        headers["Authorization"] = f"Bearer {key}"
    transport = httpx2.ASGITransport(app=app, client=(address, 50000))
    return httpx2.AsyncClient(transport=transport, base_url=URL, headers=headers)
