"""The endpoints of the Registry API (`sprintconnect.md`): parameters, statuses, rate limits, forms of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contract.shapes import Maybe, is_number, is_time, is_uuid

ENVIRONMENTS = frozenset({"development", "staging", "production"})
HEALTH = frozenset({"healthy", "unhealthy", "degraded", "unknown"})
CAPABILITIES = {"tools": [str], "resources": [str]}

USER = {"user_id": is_uuid, "org_id": is_uuid, "email": str, "roles": [str]}
SERVER = {
    "id": is_uuid,
    "name": str,
    "description": Maybe(str),
    "base_url": str,
    "environment": ENVIRONMENTS,
    "status": frozenset({"active", "inactive", "archived"}),
    "health_status": HEALTH,
    "created_at": is_time,
    "updated_at": is_time,
    "deleted_at": Maybe(is_time),
    "org_id": is_uuid,
    "owner_user_id": is_uuid,
    "tags": [str],
}
HEALTH_CONFIG = {
    "enabled": bool,
    "check_interval_seconds": int,
    "timeout_seconds": int,
    "retry_count": int,
}
REGISTERED = {**SERVER, "capabilities": CAPABILITIES}
SERVER_DETAIL = {
    **REGISTERED,
    "server_metadata": {"version": Maybe(str), "protocol_version": Maybe(str), "health_config": HEALTH_CONFIG},
}
SERVER_HEALTH_CONFIG = {
    "server_id": is_uuid,
    **HEALTH_CONFIG,
    "alert_thresholds": {"response_time_ms": is_number, "uptime_percentage": is_number},
}
ALERT = {
    "id": is_uuid,
    "server_id": is_uuid,
    "type": str,
    "severity": frozenset({"info", "warning", "critical"}),
    "message": str,
    "created_at": is_time,
    "resolved_at": Maybe(is_time),
    "metadata": dict,
}
CHANNEL = {"id": is_uuid, "name": str, "type": str, "enabled": bool, "config": dict}
SETTINGS = {
    "max_servers": int,
    "allowed_environments": [ENVIRONMENTS],
    "features": {"analytics": bool, "webhooks": bool, "audit_logs": bool},
}
ORGANIZATION = {
    "id": is_uuid,
    "name": str,
    "description": str,
    "created_at": is_time,
    "updated_at": is_time,
    "settings": SETTINGS,
}


@dataclass(frozen=True)
class Limit:
    """Requests a minute, counted for each address or user."""

    amount: int
    per: str


AUTHENTICATION = Limit(10, "address")
SERVERS = Limit(100, "user")
MONITORING = Limit(1000, "user")
DISCOVERY = Limit(50, "user")


@dataclass(frozen=True)
class Endpoint:
    """One of the document's.

    Args:
        answer: form of the body; `None` where there is none that is JSON.
        query: the parameters of the query.
        limit: `None` where the document gives none.
    """

    status: int
    answer: Any
    query: tuple[str, ...] = ()
    limit: Limit | None = None
    open: bool = False


_ONE = "/v1/mcp/servers/{server_id}"
ENDPOINTS: dict[str, Endpoint] = {
    "GET /v1/auth/oidc/login": Endpoint(302, None, limit=AUTHENTICATION, open=True),
    "GET /v1/auth/oidc/callback": Endpoint(
        302, None, ("code", "state", "error", "error_description"), limit=AUTHENTICATION, open=True
    ),
    "POST /v1/auth/oidc/logout": Endpoint(200, {"logout_url": str}, limit=AUTHENTICATION),
    "POST /v1/auth/login": Endpoint(
        200,
        {"access_token": str, "token_type": frozenset({"bearer"}), "session_id": str, "user": USER},
        limit=AUTHENTICATION,
        open=True,
    ),
    "POST /v1/auth/validate": Endpoint(200, {"valid": bool, "user": USER}, limit=AUTHENTICATION, open=True),
    "POST /v1/auth/api-key/validate": Endpoint(200, {"valid": bool, "user": USER}, limit=AUTHENTICATION, open=True),
    "POST /v1/auth/permissions/check": Endpoint(
        200, {"has_permissions": bool, "missing_permissions": [str]}, limit=AUTHENTICATION
    ),
    "POST /v1/mcp/servers/register": Endpoint(201, REGISTERED, limit=SERVERS),
    "POST /v1/mcp/servers": Endpoint(201, REGISTERED, limit=SERVERS),
    "GET /v1/mcp/servers": Endpoint(
        200,
        {"servers": [SERVER], "total": int, "limit": int, "offset": int},
        ("environment", "status", "health_status", "limit", "offset"),
        limit=SERVERS,
    ),
    f"GET {_ONE}": Endpoint(200, SERVER_DETAIL, limit=SERVERS),
    f"PUT {_ONE}": Endpoint(200, SERVER_DETAIL, limit=SERVERS),
    f"DELETE {_ONE}": Endpoint(200, {"message": str, "deleted_at": is_time, "cleanup_job_id": is_uuid}, limit=SERVERS),
    "GET /health": Endpoint(200, {"status": HEALTH, "version": str, "timestamp": is_number}, open=True),
    f"GET {_ONE}/health": Endpoint(
        200,
        {
            "server_id": is_uuid,
            "health_status": HEALTH,
            "last_check_at": Maybe(is_time),
            "uptime_percentage": Maybe(is_number),
            "response_time_ms": Maybe(is_number),
            "error_message": Maybe(str),
            "checks": {"connectivity": HEALTH, "handshake": HEALTH, "capabilities": HEALTH},
        },
        limit=MONITORING,
    ),
    f"GET {_ONE}/health/config": Endpoint(200, SERVER_HEALTH_CONFIG, limit=MONITORING),
    f"PUT {_ONE}/health/config": Endpoint(200, SERVER_HEALTH_CONFIG, limit=MONITORING),
    f"GET {_ONE}/health/metrics": Endpoint(
        200,
        {
            "server_id": is_uuid,
            "period": {"start_time": is_time, "end_time": is_time},
            "summary": {
                "total_checks": int,
                "successful_checks": int,
                "failed_checks": int,
                "uptime_percentage": Maybe(is_number),
                "avg_response_time_ms": Maybe(is_number),
                "max_response_time_ms": Maybe(is_number),
            },
            "metrics": [{"timestamp": is_time, "status": HEALTH, "response_time_ms": Maybe(is_number), "uptime": bool}],
        },
        ("start_time", "end_time", "granularity"),
        limit=MONITORING,
    ),
    f"GET {_ONE}/health/alerts": Endpoint(200, {"alerts": [ALERT]}, limit=MONITORING),
    f"POST {_ONE}/health/alerts": Endpoint(201, ALERT, limit=MONITORING),
    f"GET {_ONE}/health/notifications": Endpoint(200, {"channels": [CHANNEL]}, limit=MONITORING),
    f"POST {_ONE}/health/notifications": Endpoint(201, CHANNEL, limit=MONITORING),
    f"POST {_ONE}/capabilities/discover": Endpoint(
        200,
        {
            "server_id": is_uuid,
            "discovered_at": is_time,
            "capabilities": {"tools": dict, "resources": dict},
            "resources": [dict],
            "tools": [dict],
            "errors": [str],
            "warnings": [str],
        },
        limit=DISCOVERY,
    ),
    f"POST {_ONE}/capabilities/test": Endpoint(
        200, {"success": bool, "result": Maybe(dict), "execution_time_ms": is_number}, limit=DISCOVERY
    ),
    "GET /v1/organizations": Endpoint(200, {"organizations": [ORGANIZATION]}),
    "GET /v1/organizations/{org_id}": Endpoint(
        200,
        {
            **ORGANIZATION,
            "users": [{"id": is_uuid, "email": str, "name": str, "roles": [str], "created_at": is_time}],
        },
    ),
    "WEBSOCKET /ws/health/{server_id}": Endpoint(
        101,
        {
            "type": frozenset({"health_update"}),
            "server_id": is_uuid,
            "health_status": HEALTH,
            "timestamp": is_time,
            "response_time_ms": Maybe(is_number),
        },
    ),
}

ERROR = {"type": frozenset({"about:blank"}), "title": str, "status": int, "detail": str, "request_id": str}
VALIDATION_ERROR = {**ERROR, "detail": [{"loc": list, "msg": str, "type": str}]}

UNSERVED = frozenset[str]()
"""Not built yet. What is served leaves this list, and needs a test then."""
SERVED = {name: one for name, one in ENDPOINTS.items() if name not in UNSERVED}
