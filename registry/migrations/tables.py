"""Every module that declares tables, imported once, so that the metadata is whole. A new feature adds its line here."""

from __future__ import annotations

from registry.access import models as access
from registry.accounts import models as accounts
from registry.approvals import models as approvals
from registry.audit import models as audit
from registry.budgets import models as budgets
from registry.core import idempotency, leases, outbox
from registry.core.db import Base
from registry.emergency import models as emergency
from registry.health import models as health
from registry.identity import models as identity
from registry.notifications import models as notifications
from registry.oauth import models as oauth
from registry.oidc import models as oidc
from registry.pins import models as pins
from registry.servers import changes, prices
from registry.servers import models as servers
from registry.sessions import models as sessions
from registry.sets import models as sets
from registry.teams import models as teams
from registry.usage import models as usage
from registry.workspaces import models as workspaces

MODULES = (
    accounts,
    access,
    approvals,
    audit,
    budgets,
    changes,
    emergency,
    health,
    idempotency,
    identity,
    leases,
    notifications,
    outbox,
    oauth,
    oidc,
    pins,
    prices,
    servers,
    sessions,
    sets,
    teams,
    usage,
    workspaces,
)
metadata = Base.metadata
