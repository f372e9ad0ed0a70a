"""The gateway's own tools, all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.api.registry.accounts import CALLBACK_PATH
from mcp_tools.access import AccessTools
from mcp_tools.accounts import AccountTools
from mcp_tools.approvals import ApprovalTools
from mcp_tools.audit import AuditTools
from mcp_tools.budgets import BudgetTools
from mcp_tools.catalogues import ImportTools
from mcp_tools.emergency import EmergencyTools
from mcp_tools.health import HealthTools
from mcp_tools.jobs import JobTools
from mcp_tools.notifications import NotificationTools
from mcp_tools.openapi import OpenApiTools
from mcp_tools.organizations import OrganizationTools
from mcp_tools.pins import PinTools
from mcp_tools.servers import ServerTools
from mcp_tools.sets import SetTools
from mcp_tools.sign_ins import SignInTools
from mcp_tools.teams import TeamTools
from mcp_tools.usage import UsageTools
from mcp_tools.users import UserTools
from mcp_tools.why import WhyTools
from mcp_tools.workspaces import WorkspaceTools

if TYPE_CHECKING:
    from gateway.wiring.data_path import DataPath
    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services
    from gateway.wiring.workspaces import Workspaces
    from mcp_tools.tool import Tool


def own_tools(ground: Ground, services: Services, path: DataPath, workspaces: Workspaces) -> list[Tool[Any]]:
    """See `mcp_tools`."""
    database = ground.database
    return [
        *ServerTools(database, services.servers, path.discovery, path.upstreams).tools(),
        *OpenApiTools(database, services.servers, services.imports).tools(),
        *SetTools(database, services.sets).tools(),
        *HealthTools(database, services.servers, services.health, services.monitoring, path.upstreams).tools(),
        *TeamTools(database, services.teams).tools(),
        *AccessTools(database, services.access).tools(),
        *WhyTools(database, services.identity, path).tools(),
        *PinTools(database, services.pins).tools(),
        *ApprovalTools(database, services.approvals).tools(),
        *EmergencyTools(database, services.emergency).tools(),
        *BudgetTools(database, services.budgets, services.prices).tools(),
        *UsageTools(database, services.usage).tools(),
        *AuditTools(database, services.audit_log, services.verifier).tools(),
        *NotificationTools(database, services.notifications).tools(),
        *ImportTools(path.imports).tools(),
        *WorkspaceTools(database, workspaces.service, workspaces.console, workspaces.endpoint_of).tools(),
        *JobTools(database, services.jobs).tools(),
        *OrganizationTools(database, services.organizations).tools(),
        *UserTools(database, services.directory).tools(),
        *SignInTools(database, services.stays, services.oauth).tools(),
        *AccountTools(
            database,
            services.servers,
            services.accounts,
            services.standings,
            origin=ground.url,
            callback=CALLBACK_PATH,
        ).tools(),
    ]
