"""The REST façade: every router, with the services it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.agents import budgets as budgets_api
from gateway.api.agents import emergency as emergency_api
from gateway.api.registry import access as access_api
from gateway.api.registry import account as account_api
from gateway.api.registry import api_keys as api_keys_api
from gateway.api.registry import approvals as approvals_api
from gateway.api.registry import audit as audit_api
from gateway.api.registry import auth as auth_api
from gateway.api.registry import catalogues as catalogues_api
from gateway.api.registry import health as health_api
from gateway.api.registry import jobs as jobs_api
from gateway.api.registry import openapi as openapi_api
from gateway.api.registry import organizations as organizations_api
from gateway.api.registry import pins as pins_api
from gateway.api.registry import servers as servers_api
from gateway.api.registry import sets as sets_api
from gateway.api.registry import teams as teams_api
from gateway.api.registry import tools as tools_api
from gateway.api.registry import usage as usage_api
from gateway.api.registry import why as why_api
from gateway.api.shared import health as shared_health_api
from gateway.api.shared import metrics as metrics_api
from gateway.api.shared import probes
from gateway.api.shared import users as users_api
from gateway.api.shared.rate_limits import MemoryRateLimiter
from gateway.api.shared.route import Front
from gateway.api.workspaces import api_keys as workspaces_keys_api
from gateway.api.workspaces import bridge as bridge_api
from gateway.api.workspaces import control as control_api
from gateway.api.workspaces import introspection as introspection_api
from gateway.api.workspaces import workspaces as workspaces_api
from gateway.observability.metrics import CONTENT_TYPE
from gateway.wiring.sign_in import sign_in_routers
from registry.catalogues.publishing import Publisher
from registry.core.idempotency import IdempotencyStore
from registry.identity.first_run import operator_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import APIRouter

    from gateway.auth.authenticator import Authenticator
    from gateway.wiring.data_path import DataPath
    from gateway.wiring.ground import Ground
    from gateway.wiring.observability import Observability
    from gateway.wiring.services import Services
    from gateway.wiring.workspaces import Workspaces


def routers(
    ground: Ground,
    services: Services,
    path: DataPath,
    workspaces: Workspaces,
    authenticator: Authenticator,
    observability: Observability,
    ready: Callable[[], bool],
) -> Sequence[APIRouter]:
    """Every router of the façade, in the order in which the documentation shows them."""
    settings = ground.settings
    front = Front(
        ground.database,
        authenticator,
        IdempotencyStore(ground.clock, ground.master),
        ground.addresses,
        MemoryRateLimiter() if settings.rate_limits == "on" else None,
        path.settled,
    )
    proof = operator_token(settings.data_dir)
    return [
        probes.router(ready),
        metrics_api.router(
            observability.metrics.render,
            CONTENT_TYPE,
            authenticator,
            settings.metrics,
            proxied=bool(settings.trusted_proxies),
        ),
        health_api.system_router(front, services.health),
        auth_api.router(front, services.identity),
        account_api.public_router(front, services.identity),
        account_api.router(front, services.identity, services.oauth, services.stays),
        *sign_in_routers(ground, services, front),
        organizations_api.router(front, services.organizations),
        api_keys_api.router(front, services.identity),
        servers_api.router(front, services.servers, path.discovery, operator_token=proof, circuits=path.upstreams),
        openapi_api.router(front, services.servers, services.imports),
        servers_api.discovery_router(front, services.servers, path.discovery),
        sets_api.router(front, services.sets),
        *_watching(front, services, path),
        tools_api.router(front, path.caller, url=ground.url),
        tools_api.test_router(front, path.caller),
        teams_api.router(front, services.teams),
        access_api.router(front, services.access),
        why_api.router(front, services.identity, path),
        pins_api.router(front, services.pins),
        approvals_api.router(front, services.approvals),
        budgets_api.router(front, services.budgets),
        budgets_api.changing_router(front, services.budgets),
        budgets_api.prices_router(front, services.prices),
        emergency_api.router(front, services.emergency),
        usage_api.router(front, services.usage),
        audit_api.router(front, services.audit_log),
        audit_api.whole_router(front, services.audit_log, services.verifier),
        catalogues_api.router(front, Publisher(ground.url)),
        catalogues_api.import_router(front, path.imports, operator_token=proof),
        *_workspaces(front, ground, services, path, workspaces),
    ]


def _watching(front: Front, services: Services, path: DataPath) -> Sequence[APIRouter]:
    """How servers fare, who hears of it, and the work behind that."""
    return [
        health_api.router(front, services.monitoring, path.upstreams),
        health_api.channels_router(front, services.notifications),
        jobs_api.router(front, services.jobs),
    ]


def _workspaces(
    front: Front, ground: Ground, services: Services, path: DataPath, workspaces: Workspaces
) -> Sequence[APIRouter]:
    """The Workspaces API, and what it shares with the other documents under /api/v1."""
    secret = ground.settings.introspect_secret
    service, endpoint_of = workspaces.service, workspaces.endpoint_of
    return [
        users_api.router(front, services.directory, services.identity, service, endpoint_of),
        shared_health_api.router(
            front, services.health, workspaces.engine, service, ground.clock, ground.settings.data_dir
        ),
        workspaces_api.router(front, service, endpoint_of),
        control_api.router(front, service, workspaces.console, endpoint_of),
        control_api.credentials_router(front, workspaces.credentials),
        bridge_api.router(front, service, path.caller),
        workspaces_keys_api.router(front, services.identity),
        introspection_api.router(front, secret=secret.get_secret_value() if secret else None),
    ]
