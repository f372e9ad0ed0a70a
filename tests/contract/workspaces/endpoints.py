"""The endpoints of the Workspaces API (`octoprox.md`): statuses, parameters, rate limits, forms of answers.

Users have UUIDs in this document too, workspaces and keys integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contract.shapes import Maybe, is_number, is_time, is_uuid

GENERAL = 200
AUTHENTICATION = 60
"""Requests a minute from one address."""

META = {"page": int, "per_page": int, "total": int}
WORKSPACE = {
    "id": int,
    "name": str,
    "user_id": is_uuid,
    "status": frozenset({"active", "inactive", "deleted"}),
    "endpoint_url": str,
    "created_at": is_time,
    "updated_at": is_time,
    "metadata": dict,
    "nexusgate_service_id": Maybe(str),
    "container_id": Maybe(str),
    "container_status": str,
}
KEY = {
    "id": int,
    "name": str,
    "prefix": str,
    "user_id": is_uuid,
    "created_at": is_time,
    "last_used_at": Maybe(is_time),
    "nexusgate_token_id": Maybe(str),
    "expires_at": Maybe(is_time),
}
USER = {
    "id": is_uuid,
    "username": str,
    "role": str,
    "is_active": bool,
    "created_at": is_time,
    "updated_at": is_time,
    "nexusgate_user_id": Maybe(str),
    "nexusgate_role": Maybe(str),
    "last_synced_at": Maybe(is_time),
}
TOOL = {"name": str, "description": str}


@dataclass(frozen=True)
class Endpoint:
    """One of the document's.

    Args:
        answer: form of the body; `None` where there is none.
        open: answers without a credential.
        limit: requests a minute.
        shared: another document has the path too, so that a 429's `error` is an object.
    """

    status: int
    answer: Any
    query: tuple[str, ...] = ()
    open: bool = False
    limit: int = GENERAL
    shared: bool = False


ENDPOINTS: dict[str, Endpoint] = {
    "GET /api/v1/users": Endpoint(
        200, {"data": {"users": [USER]}, "meta": META}, ("page", "per_page", "status", "role"), shared=True
    ),
    "GET /api/v1/users/{user_id}": Endpoint(
        200, {"data": {**USER, "workspaces": [WORKSPACE], "api_keys": [KEY]}}, shared=True
    ),
    "PUT /api/v1/users/{user_id}": Endpoint(200, {"data": USER}, shared=True),
    "DELETE /api/v1/users/{user_id}": Endpoint(204, None),
    "GET /api/v1/workspaces": Endpoint(
        200, {"data": {"workspaces": [WORKSPACE]}, "meta": META}, ("page", "per_page", "status", "user_id")
    ),
    "POST /api/v1/workspaces": Endpoint(201, {"data": {**WORKSPACE, "container_status": frozenset({"starting"})}}),
    "GET /api/v1/workspaces/{workspace_id}": Endpoint(200, {"data": {**WORKSPACE, "tools": [TOOL]}}),
    "DELETE /api/v1/workspaces/{workspace_id}": Endpoint(204, None),
    "GET /api/v1/api-keys": Endpoint(200, {"data": {"api_keys": [KEY]}, "meta": META}, ("page", "per_page", "user_id")),
    "POST /api/v1/api-keys": Endpoint(
        201, {"data": {"id": int, "api_key": str, "name": str, "prefix": str, "warning": str}}
    ),
    "DELETE /api/v1/api-keys/{key_id}": Endpoint(204, None),
    "POST /api/v1/auth/introspect": Endpoint(
        200,
        {"active": bool, "sub": is_uuid, "username": str, "role": str, "token_type": str},
        open=True,
        limit=AUTHENTICATION,
    ),
    "GET /api/v1/health": Endpoint(
        200,
        {
            "status": frozenset({"healthy", "degraded"}),
            "timestamp": is_time,
            "components": {
                "database": {"status": frozenset({"healthy"}), "response_time_ms": is_number},
                "docker": {"status": str, "version": Maybe(str)},
            },
            "workspaces": {"total": int, "active": int},
            # Of `opssight.md`, which has the path too.
            "version": str,
            "services": {"database": {"status": str, "response_time_ms": is_number}},
            "system": {
                "cpu_usage": is_number,
                "memory_usage": is_number,
                "disk_usage": is_number,
                "uptime_seconds": int,
            },
        },
        open=True,
        shared=True,
    ),
    "GET /api/v1/mcp/tools": Endpoint(200, {"data": {"tools": [TOOL], "count": int}}, ("workspace_id",)),
    "POST /api/v1/mcp/invoke": Endpoint(200, {"data": {"tool": str, "workspace_id": int, "result": dict}}),
}
