"""The registry's services, made once; what stands on them takes the ones it needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from registry.access.service import AccessService
from registry.approvals.service import ApprovalService
from registry.audit.log import AuditLog, Changes
from registry.audit.service import AuditService
from registry.audit.verify import CHANGES_TABLE, AuditVerifier
from registry.budgets.service import BudgetService
from registry.core.security import Sealer, derive_key
from registry.emergency.service import EmergencyService
from registry.health.service import HealthService
from registry.identity.organizations import OrganizationService
from registry.identity.service import IdentityService
from registry.jobs.service import JobService
from registry.oauth.documents import ClientDocuments
from registry.oauth.service import OAuthService
from registry.openapi.service import OpenApiImport
from registry.pins.judge import Judge
from registry.pins.service import PinService
from registry.servers.prices import PriceService
from registry.servers.service import ServerService
from registry.sets.service import SetService
from registry.teams.service import TeamService
from registry.usage.log import Calls
from registry.usage.service import CALLS_TABLE, UsageService

if TYPE_CHECKING:
    from gateway.wiring.ground import Ground


@dataclass(frozen=True, slots=True)
class Services:
    """One of each."""

    audit: AuditService
    audit_log: AuditLog
    verifier: AuditVerifier
    identity: IdentityService
    organizations: OrganizationService
    servers: ServerService
    sets: SetService
    usage: UsageService
    health: HealthService
    emergency: EmergencyService
    budgets: BudgetService
    prices: PriceService
    pins: PinService
    approvals: ApprovalService
    imports: OpenApiImport
    oauth: OAuthService
    teams: TeamService
    access: AccessService
    jobs: JobService

    @classmethod
    def make(cls, ground: Ground) -> Services:
        settings, database, clock, master = ground.settings, ground.database, ground.clock, ground.master
        audit_key = derive_key(master, "audit")
        audit = AuditService(clock, audit_key)
        usage = UsageService(database, clock, audit_key)
        tables = (CHANGES_TABLE, CALLS_TABLE)
        servers = ServerService(
            clock,
            Sealer(master, "servers"),
            audit,
            pinning=Judge(clock, audit),
            stdio_without_proof=settings.stdio_api == "on",
        )
        return cls(
            audit=audit,
            audit_log=AuditLog(database, [Changes(), Calls()]),
            verifier=AuditVerifier(database, clock, audit_key, tables, own=[usage.chain]),
            identity=IdentityService(
                clock,
                audit,
                master,
                access_token_minutes=settings.access_token_minutes,
                idle=timedelta(minutes=settings.login_idle_minutes),
                lifetime=timedelta(days=settings.login_days),
            ),
            organizations=OrganizationService(clock, audit),
            servers=servers,
            sets=SetService(clock, audit),
            usage=usage,
            health=HealthService(database, clock),
            emergency=EmergencyService(clock, audit),
            budgets=BudgetService(clock, audit),
            prices=PriceService(audit),
            pins=PinService(clock, audit),
            approvals=ApprovalService(clock, audit, Sealer(master, "approvals")),
            imports=OpenApiImport(servers, ground.egress),
            oauth=OAuthService(
                database,
                clock,
                audit,
                master,
                ClientDocuments(ground.egress.client, clock),
                access_token_minutes=settings.access_token_minutes,
            ),
            teams=TeamService(clock, audit),
            access=AccessService(clock, audit),
            jobs=JobService(clock, audit),
        )
