"""The registry's services, made once; what stands on them takes the ones it needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from registry.access.service import AccessService
from registry.accounts.issuer import IssuerClient
from registry.accounts.service import AccountService
from registry.accounts.standing import Standings
from registry.approvals.service import ApprovalService
from registry.audit.log import AuditLog, Changes
from registry.audit.service import AuditService
from registry.audit.verify import CHANGES_TABLE, AuditVerifier
from registry.budgets.service import BudgetService, Domains
from registry.core.security import Sealer, derive_key
from registry.core.settings import SettingsInvalid
from registry.emergency.service import EmergencyService
from registry.health.book import HealthBook
from registry.health.monitoring import MonitoringService
from registry.health.service import HealthService
from registry.identity.directory import Directory
from registry.identity.organizations import OrganizationService
from registry.identity.permissions import role_named
from registry.identity.service import IdentityService
from registry.identity.stays import Stays
from registry.jobs.service import JobService
from registry.notifications.senders import Senders
from registry.notifications.service import NotificationService
from registry.oauth.documents import ClientDocuments
from registry.oauth.service import OAuthService
from registry.oidc.external import ExternalTokens, Trusted
from registry.oidc.issuer import Issuer
from registry.oidc.people import Mapped, People
from registry.oidc.service import OidcService
from registry.openapi.service import OpenApiImport
from registry.pins.judge import Judge
from registry.pins.service import PinService
from registry.servers.prices import PriceService
from registry.servers.service import ServerService
from registry.sets.service import SetService
from registry.teams.service import TeamService
from registry.usage.log import Calls
from registry.usage.service import CALLS_TABLE, UsageService
from registry.workspaces.queries import workspace_slugs
from registry.workspaces.scopes import WITH_WORKSPACES

if TYPE_CHECKING:
    from gateway.wiring.ground import Ground
    from registry.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """One of each."""

    audit: AuditService
    audit_log: AuditLog
    verifier: AuditVerifier
    identity: IdentityService
    stays: Stays
    directory: Directory
    organizations: OrganizationService
    servers: ServerService
    sets: SetService
    usage: UsageService
    health: HealthService
    book: HealthBook
    monitoring: MonitoringService
    notifications: NotificationService
    emergency: EmergencyService
    budgets: BudgetService
    prices: PriceService
    pins: PinService
    approvals: ApprovalService
    imports: OpenApiImport
    jobs: JobService
    oauth: OAuthService
    oidc: OidcService | None
    external: ExternalTokens
    accounts: AccountService
    standings: Standings
    teams: TeamService
    access: AccessService

    @classmethod
    def make(cls, ground: Ground) -> Services:
        settings, database, clock, master = ground.settings, ground.database, ground.clock, ground.master
        audit_key = derive_key(master, "audit")
        audit = AuditService(clock, audit_key)
        usage = UsageService(database, clock, audit_key)
        notifications = _notifications(ground, audit)
        book = HealthBook(clock, notifications)
        people = People(clock, audit, _mapped(settings))
        servers = ServerService(
            clock,
            Sealer(master, "servers"),
            audit,
            pinning=Judge(clock, audit),
            health=book,
            stdio_without_proof=settings.stdio_api == "on",
            images=frozenset(settings.workspace_images),
            other_slugs=workspace_slugs,
        )
        identity = _identity(ground, audit)
        return cls(
            audit=audit,
            audit_log=AuditLog(database, [Changes(), Calls()]),
            verifier=AuditVerifier(database, clock, audit_key, (CHANGES_TABLE, CALLS_TABLE), own=[usage.chain]),
            identity=identity,
            stays=Stays(clock, audit),
            directory=Directory(clock, audit, identity),
            organizations=OrganizationService(clock, audit),
            servers=servers,
            sets=SetService(clock, audit),
            usage=usage,
            health=HealthService(database, clock),
            book=book,
            monitoring=MonitoringService(clock, audit, book),
            notifications=notifications,
            emergency=EmergencyService(clock, audit),
            budgets=BudgetService(clock, audit, Domains(scopes=WITH_WORKSPACES)),
            prices=PriceService(audit),
            pins=PinService(clock, audit),
            approvals=ApprovalService(clock, audit, Sealer(master, "approvals")),
            imports=OpenApiImport(servers, ground.egress),
            jobs=JobService(clock, audit),
            oauth=_oauth(ground, audit),
            oidc=_oidc(ground, people),
            accounts=AccountService(database, clock, audit, servers, IssuerClient(ground.egress.client), master),
            standings=Standings(clock, audit, servers),
            external=ExternalTokens(database, people, [_trusted(ground, entry) for entry in settings.jwt_issuers]),
            teams=TeamService(clock, audit),
            access=AccessService(clock, audit),
        )


def _notifications(ground: Ground, audit: AuditService) -> NotificationService:
    url = ground.settings.smtp_url
    senders = Senders(ground.egress, ground.clock, url.get_secret_value() if url is not None else None)
    return NotificationService(ground.clock, audit, Sealer(ground.master, "notifications"), senders)


def _identity(ground: Ground, audit: AuditService) -> IdentityService:
    settings = ground.settings
    return IdentityService(
        ground.clock,
        audit,
        ground.master,
        access_token_minutes=settings.access_token_minutes,
        idle=timedelta(minutes=settings.login_idle_minutes),
        lifetime=timedelta(days=settings.login_days),
    )


def _oauth(ground: Ground, audit: AuditService) -> OAuthService:
    return OAuthService(
        ground.database,
        ground.clock,
        audit,
        ground.master,
        ClientDocuments(ground.egress.client, ground.clock),
        access_token_minutes=ground.settings.access_token_minutes,
    )


def _mapped(settings: Settings) -> Mapped:
    pairs = [entry.partition("=") for entry in settings.oidc_roles]
    return Mapped(
        org_claim=settings.oidc_org_claim,
        role_claim=settings.oidc_role_claim,
        roles={name.strip(): role_named(role.strip()) for name, _, role in pairs},
        default_role=settings.oidc_default_role,
        provision=settings.oidc_provision == "on",
    )


def _oidc(ground: Ground, people: People) -> OidcService | None:
    settings, egress = ground.settings, ground.egress.client
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    secret = settings.oidc_client_secret
    return OidcService(
        ground.database,
        ground.clock,
        egress,
        ground.master,
        Issuer(settings.oidc_issuer, egress, ground.clock),
        people,
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret is not None else None,
        scopes=settings.oidc_scopes,
    )


def _trusted(ground: Ground, entry: str) -> Trusted:
    url, _, rest = entry.partition("|")
    audience, _, keys = rest.partition("|")
    if not url or not audience:
        raise SettingsInvalid("GATEHOUSE_JWT_ISSUERS must have entries of the form ISSUER|AUDIENCE or with |JWKS_URL.")
    return Trusted(Issuer(url, ground.egress.client, ground.clock, keys or None), audience)
