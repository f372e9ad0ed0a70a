"""Permissions and roles as data. A role is a set of permissions; a key may narrow its owner's."""

from __future__ import annotations

from registry.core.errors import Invalid
from registry.identity.principal import OPERATE

METRICS = "gateway:metrics"
OTHERS = "users:manage"
"""Who holds it sees and manages what belongs to other users of the organisation: their keys, their workspaces."""

PERMISSIONS: dict[str, str] = {
    "mcp:servers:read": "See registered MCP servers.",
    "mcp:servers:create": "Register MCP servers.",
    "mcp:servers:update": "Change MCP servers, their credentials and prices.",
    "mcp:servers:delete": "Remove MCP servers.",
    "mcp:tools:list": "List tools.",
    "mcp:tools:call": "Call tools.",
    "mcp:resources:list": "List resources.",
    "mcp:resources:read": "Read and subscribe to resources.",
    "mcp:prompts:list": "List prompts.",
    "mcp:prompts:get": "Get prompts.",
    "mcp:capabilities:discover": "Ask a server anew for what it offers.",
    "mcp:capabilities:test": "Try a method of a server.",
    "mcp:health:read": "See the health of servers.",
    "mcp:health:manage": "Change health checks, alerts and notification channels.",
    "organizations:read": "See one's organisation.",
    "organizations:manage": "Change one's organisation and its settings.",
    "users:read": "See the users of the organisation.",
    OTHERS: "Create and change users, and the keys and workspaces of others.",
    "keys:read": "See one's API keys.",
    "keys:manage": "Create and revoke one's API keys.",
    "usage:read": "See usage and metrics.",
    "audit:read": "Read the audit log.",
    "budgets:read": "See budgets and spending.",
    "budgets:manage": "Set budget limits.",
    "jobs:read": "See notifications and other work behind requests.",
    "jobs:manage": "Replay work that has failed.",
    "emergency:manage": "Stop and resume all activity of the organisation.",
    "approvals:read": "See calls that wait for a person.",
    "approvals:decide": "Approve or deny calls and changed definitions.",
    "approvals:manage": "Say which calls wait for a person.",
    "access:read": "See who may use which tools, resources and prompts.",
    "access:manage": "Say who may use which tools, resources and prompts.",
    "teams:read": "See teams and who is in them.",
    "teams:manage": "Create and change teams, and say who is in them.",
    "sets:read": "See curated sets of tools.",
    "sets:manage": "Create and change curated sets.",
    "workspaces:read": "See workspaces.",
    "workspaces:manage": "Create, start, stop and remove workspaces, and run commands in them.",
    METRICS: "Read the gateway's own metrics, which tell of all organisations.",
    OPERATE: "Act over all organisations and on the machine itself.",
}

OPERATOR = frozenset({OPERATE, METRICS})
"""What an operator may do beside what a role grants; no role has it."""

AGENT = frozenset(
    {
        "mcp:servers:read",
        "mcp:tools:list",
        "mcp:tools:call",
        "mcp:resources:list",
        "mcp:resources:read",
        "mcp:prompts:list",
        "mcp:prompts:get",
        "mcp:health:read",
        "usage:read",
    }
)
"""What a program needs that only works with tools: list, call and read."""

PUBLIC = frozenset(name for name in AGENT if name.startswith(("mcp:tools:", "mcp:resources:", "mcp:prompts:")))
"""What anybody may do at a public address. No role: nobody can be given it."""

_VIEWER = frozenset(
    {
        "mcp:servers:read",
        "mcp:tools:list",
        "mcp:resources:list",
        "mcp:prompts:list",
        "mcp:health:read",
        "organizations:read",
        "keys:read",
        "usage:read",
        "budgets:read",
        "approvals:read",
        "sets:read",
        "teams:read",
        "workspaces:read",
    }
)
_USER = _VIEWER | AGENT | {"mcp:capabilities:test", "keys:manage", "workspaces:manage"}
_ADMIN = frozenset(PERMISSIONS) - OPERATOR
_MANAGER = _ADMIN - {"users:manage"}

ROLES: dict[str, frozenset[str]] = {
    "admin": _ADMIN,
    "manager": _MANAGER,
    "user": _USER,
    "viewer": _VIEWER,
    "agent": AGENT,
}

_ALIASES = {"engineer": "user", "developer": "user"}


def role_named(name: str) -> str:
    """Our name for a role, given any document's word for it. Raises `Invalid`."""
    role = _ALIASES.get(name, name)
    if role not in ROLES:
        raise Invalid(f"Unknown role {name!r}: use one of {', '.join((*ROLES, *_ALIASES))}.", field="role")
    return role


def check_permissions(names: list[str]) -> None:
    """Raises `Invalid` for names that are no permissions."""
    if unknown := sorted(set(names) - PERMISSIONS.keys()):
        raise Invalid(f"Unknown permission {', '.join(map(repr, unknown))}.", field="permissions")
