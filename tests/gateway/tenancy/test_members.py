"""What is an administrator's is refused to ordinary members: every REST operation, as a list checked both ways."""

from __future__ import annotations

import pytest

from tests.gateway.tenancy.house import House
from tests.support.attacks import attack

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMINISTRATION = {
    "DELETE /api/v1/budget/limits/{limit_id}",
    "DELETE /api/v1/users/{user_id}",
    "DELETE /v1/access/rules/{rule_id}",
    "DELETE /v1/approvals/rules/{rule_id}",
    "DELETE /v1/mcp/servers/{server_id}",
    "DELETE /v1/mcp/servers/{server_id}/login",
    "DELETE /v1/notifications/channels/{channel_id}",
    "DELETE /v1/sets/{slug}",
    "DELETE /v1/teams/{team_id}",
    "DELETE /v1/teams/{team_id}/members/{user_id}",
    "GET /api/v1/users/{user_id}",
    "GET /v1/access/rules",
    "GET /v1/audit",
    "GET /v1/audit/export",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "PATCH /api/v1/budget/limits/{limit_id}",
    "POST /api/v1/budget/limits",
    "POST /api/v1/budget/limits/{limit_id}/resume",
    "POST /api/v1/emergency/pause-all",
    "POST /api/v1/emergency/resume-all",
    "POST /v1/access/rules",
    "POST /v1/approvals/rules",
    "POST /v1/approvals/{approval_id}/approve",
    "POST /v1/approvals/{approval_id}/deny",
    "POST /v1/audit/verify",
    "POST /v1/jobs/{job_id}/replay",
    "POST /v1/mcp/servers",
    "POST /v1/mcp/servers/import",
    "POST /v1/mcp/servers/openapi",
    "POST /v1/mcp/servers/register",
    "POST /v1/mcp/servers/{server_id}/capabilities/discover",
    "POST /v1/mcp/servers/{server_id}/health/alerts",
    "POST /v1/mcp/servers/{server_id}/health/alerts/{alert_id}/resolve",
    "POST /v1/mcp/servers/{server_id}/health/notifications",
    "POST /v1/mcp/servers/{server_id}/pins/{pin_id}/approve",
    "POST /v1/mcp/servers/{server_id}/pins/{pin_id}/keep",
    "POST /v1/notifications/channels",
    "POST /v1/notifications/channels/{channel_id}/test",
    "POST /v1/teams",
    "POST /v1/workspaces-image",
    "PUT /api/v1/budget/timezone",
    "PUT /api/v1/users/{user_id}",
    "PUT /v1/mcp/servers/{server_id}",
    "PUT /v1/mcp/servers/{server_id}/health/config",
    "PUT /v1/mcp/servers/{server_id}/login",
    "PUT /v1/mcp/servers/{server_id}/tools/{tool}/price",
    "PUT /v1/notifications/channels/{channel_id}",
    "PUT /v1/organizations/{org_id}",
    "PUT /v1/sets/{slug}",
    "PUT /v1/teams/{team_id}",
    "PUT /v1/teams/{team_id}/members/{user_id}",
    "POST /v1/sets",
}
"""What a member may not do, and an administrator may."""
OPERATORS = {"POST /v1/workspaces-image"}
"""What not even an administrator may."""
IN_PERSON = {"POST /v1/auth/second-factor", "POST /v1/auth/second-factor/confirm"}
"""What no key may, whoever's it is."""
WORK = {
    "DELETE /v1/workspaces-credentials/{credential_id}",
    "DELETE /api/v1/api-keys/{key_id}",
    "DELETE /api/v1/workspaces/{workspace_id}",
    "DELETE /v1/api-keys/{key_id}",
    "POST /api/v1/api-keys",
    "POST /api/v1/workspaces",
    "POST /v1/api-keys",
    "POST /v1/mcp/servers/{server_id}/capabilities/test",
    "POST /v1/workspaces/{workspace_id}/exec",
    "POST /v1/workspaces/{workspace_id}/restart",
    "POST /v1/workspaces/{workspace_id}/start",
    "POST /v1/workspaces/{workspace_id}/stop",
}
"""What a member may do and somebody who only looks may not."""


async def refused(house: House, key: str) -> set[str]:
    """The operations that a key is refused, tried on things of its own organisation where there are any."""
    found: set[str] = set()
    for operation, told in house.operations.items():
        if "security" in told:
            status, body = await house.ask(operation, key, own=house.mine, known=False)
            assert status != 401 or operation == "POST /v1/auth/second-factor/remove", (operation, body)
            if status == 403:
                found.add(operation)
    return found


@attack(14)
async def test_members_are_refused_just_what_is_the_administrators(house: House) -> None:
    before = await house.ask("GET /v1/mcp/servers", house.admin)
    assert await refused(house, house.member) == ADMINISTRATION | IN_PERSON
    assert await refused(house, house.viewer) == ADMINISTRATION | IN_PERSON | WORK
    assert await house.ask("GET /v1/mcp/servers", house.admin) == before


@attack(14)
async def test_administrators_are_refused_what_is_the_operators_alone(house: House) -> None:
    assert await refused(house, house.admin) == OPERATORS | IN_PERSON | {"DELETE /api/v1/users/{user_id}"}
