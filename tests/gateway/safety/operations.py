"""The one list of what can be done over every door, but for servers, sets and workspaces.

`test_operations.py` walks it, and fails for a tool, route or command of these that is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.identity.permissions import AGENT


@dataclass(frozen=True)
class Operation:
    """One operation and its doors; `{limit}` and the like are filled with what a test may use up.

    Args:
        rest: method and path.
        command: what follows `gatehouse`.
        audit: the entry that it leaves; `None` for one that only reads.
        body: of the REST request.
        arguments: of the tool.
        others: permissions that its command needs to find what it is about.
        instead: permissions that suffice as well, where the door does not say which it wants.
        before: a request that the admin makes first.
        as_json: the command has `--json`.
        own: about the caller's own: over REST and the command line it takes no permission, its tool does.
        refusal: what a refusal says where it does not name the permission.
    """

    tool: str
    rest: tuple[str, str]
    command: tuple[str, ...]
    permission: str
    audit: str | None = None
    body: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    others: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    before: tuple[Any, ...] | None = None
    as_json: bool = True
    own: bool = False
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.tool}-{'-'.join(self.command[:2])}"


BUDGET, EMERGENCY = "/api/v1/budget", "/api/v1/emergency"
PINS, APPROVALS = "/v1/mcp/servers/{server}/pins", "/v1/approvals"
TEAMS, RULES = "/v1/teams", "/v1/access/rules"
ONE_PIN = {"server": "echo", "id": "{pin}"}
LIMIT = {"name": "new", "amount": 5, "unit": "calls", "scope_type": "user", "scope_id": "{user}"}
PRICE = {"server": "{server}", "tool": "say", "price_usd": 0.01}
ALLOW = {"name": "allow none__*", "effect": "allow", "who": "team", "who_id": "{team}", "pattern": "none__*"}
DENY = {"name": "no", "effect": "deny", "who": "role", "who_id": "viewer", "what": "tool", "pattern": "none__*"}
CAREFUL = {"name": "new", "tool": "none__*", "argument": {"path": "a", "compare": "gt", "value": 5}}
TIMEZONE = {"timezone": "Europe/Berlin"}

HEALTH_OF, CHANNELS = "/v1/mcp/servers/{server}/health", "/v1/notifications/channels"
ONE_SERVER = {"server": "{server}"}
ALERT = {"type": "custom_alert", "severity": "warning", "message": "It is odd."}
HOOK = {"name": "hook", "type": "webhook", "config": {"url": "{hook}"}}
ADD_HOOK = ("channels", "add", "webhook", "--name", "hook", "--to", "{hook}")

HEALTH = (
    Operation(
        "health_config",
        ("GET", f"{HEALTH_OF}/config"),
        ("health", "config", "{server}"),
        "mcp:health:read",
        arguments=ONE_SERVER,
    ),
    Operation("health_server", ("GET", HEALTH_OF), ("health", "show", "{server}"), "mcp:health:read",
              arguments=ONE_SERVER),
    Operation("health_metrics", ("GET", f"{HEALTH_OF}/metrics?granularity=5m"),
              ("health", "history", "{server}", "--by", "5m"), "mcp:health:read",
              arguments={**ONE_SERVER, "granularity": "5m"}),
    Operation("health_configure", ("PUT", f"{HEALTH_OF}/config"), ("health", "config", "{server}", "--retries", "2"),
              "mcp:health:manage", "health.configure", {"retry_count": 2}, {**ONE_SERVER, "retry_count": 2}),
    Operation("alerts_list", ("GET", f"{HEALTH_OF}/alerts"), ("health", "alerts", "{server}"), "mcp:health:read",
              arguments=ONE_SERVER),
    Operation("alerts_create", ("POST", f"{HEALTH_OF}/alerts"), ("health", "alert", "{server}", "It is odd."),
              "mcp:health:manage", "health.alerts.create", ALERT, {**ONE_SERVER, **ALERT}),
    Operation("alerts_resolve", ("POST", f"{HEALTH_OF}/alerts/{{alert}}/resolve"),
              ("health", "resolve", "{server}", "{alert}"), "mcp:health:manage", "health.alerts.resolve",
              arguments={**ONE_SERVER, "id": "{alert}"}),
    Operation("channels_list", ("GET", f"{HEALTH_OF}/notifications"), ("channels", "list", "--server", "{server}"),
              "mcp:health:read", arguments=ONE_SERVER),
    Operation("channels_list", ("GET", CHANNELS), ("channels", "list"), "mcp:health:read"),
    Operation("channels_create", ("POST", f"{HEALTH_OF}/notifications"), (*ADD_HOOK, "--server", "{server}"),
              "mcp:health:manage", "notifications.create", HOOK, {**ONE_SERVER, **HOOK}),
    Operation("channels_create", ("POST", CHANNELS), ADD_HOOK, "mcp:health:manage", "notifications.create", HOOK, HOOK),
    Operation("channels_update", ("PUT", f"{CHANNELS}/{{channel}}"), ("channels", "update", "{channel}", "--off"),
              "mcp:health:manage", "notifications.update", {"enabled": False}, {"id": "{channel}", "enabled": False}),
    Operation("channels_test", ("POST", f"{CHANNELS}/{{channel}}/test"), ("channels", "test", "{channel}"),
              "mcp:health:manage", arguments={"id": "{channel}"}),
    Operation("channels_remove", ("DELETE", f"{CHANNELS}/{{channel}}"), ("channels", "remove", "{channel}"),
              "mcp:health:manage", "notifications.delete", arguments={"id": "{channel}"}, as_json=False),
    Operation("jobs_list", ("GET", "/v1/jobs"), ("jobs", "list"), "jobs:read"),
    Operation("jobs_get", ("GET", "/v1/jobs/{job}"), ("jobs", "show", "{job}"), "jobs:read", arguments={"id": "{job}"}),
    Operation("jobs_replay", ("POST", "/v1/jobs/{dead}/replay"), ("jobs", "replay", "{dead}"), "jobs:manage",
              "jobs.replay", arguments={"id": "{dead}"}, others=("jobs:read",)),
)  # fmt: skip
ORGANIZATION, USER, LOGIN = "/v1/organizations/{org}", "/api/v1/users/{member}", "/v1/mcp/servers/{vault}/login"
VAULT = {"server": "{vault}"}
PORTAL = {"server": "{portal}"}
BROUGHT = {"headers": {"X-Account": "brought"}}
STATIC = {"kind": "static"}
NOT_YOURS = "Not authorized to access this resource"
AS_AGENTS = ("users:read", *sorted(AGENT))
"""Nobody takes from others what they may not do themselves."""
SEES = ("mcp:servers:read",)

PEOPLE = (
    Operation("organizations_list", ("GET", "/v1/organizations"), ("organizations", "list"), "organizations:read"),
    Operation("organizations_get", ("GET", ORGANIZATION), ("organizations", "show", "{org}"), "organizations:read",
              arguments={"id": "{org}"}),
    Operation("organizations_update", ("PUT", ORGANIZATION),
              ("organizations", "update", "{org}", "--description", "other"), "organizations:manage",
              "organizations.update", {"description": "other"}, {"id": "{org}", "description": "other"}),
    Operation("users_list", ("GET", "/api/v1/users"), ("users", "list"), "users:read", own=True),
    Operation("users_get", ("GET", USER), ("users", "show", "{member}"), "users:read", arguments={"id": "{member}"},
              refusal=NOT_YOURS),
    Operation("users_update", ("PUT", USER), ("users", "update", "{member}", "--name", "Other"), "users:manage",
              "users.update", {"full_name": "Other"}, {"id": "{member}", "full_name": "Other"},
              others=("users:read",), refusal=NOT_YOURS),
    Operation("users_deactivate", ("DELETE", USER), ("users", "deactivate", "{member}"), "users:manage",
              "users.update", arguments={"id": "{member}"}, others=AS_AGENTS, as_json=False, refusal=NOT_YOURS),
    Operation("sessions_list", ("GET", "/v1/auth/sessions"), ("sessions", "list"), "keys:read", own=True),
    Operation("sessions_end", ("DELETE", "/v1/auth/sessions/{session}"), ("sessions", "end", "{session}"),
              "keys:manage", "sessions.end", arguments={"id": "{session}"}, as_json=False, own=True),
    Operation("grants_list", ("GET", "/v1/auth/grants"), ("grants", "list"), "keys:read", own=True),
    Operation("grants_end", ("DELETE", "/v1/auth/grants/{grant}"), ("grants", "end", "{grant}"), "keys:manage",
              "grants.revoke", arguments={"id": "{grant}"}, as_json=False, own=True),
    Operation("logins_get", ("GET", LOGIN), ("logins", "show", "{vault}"), "mcp:servers:read", arguments=VAULT,
              before=("PUT", LOGIN, STATIC)),
    Operation("logins_set", ("PUT", LOGIN), ("logins", "set", "{vault}", "static"), "mcp:servers:update",
              "logins.set", STATIC, {**VAULT, **STATIC}, SEES),
    Operation("accounts_list", ("GET", "/v1/mcp/accounts"), ("accounts", "list"), "mcp:servers:read"),
    Operation("accounts_get", ("GET", "/v1/mcp/servers/{portal}/account"), ("accounts", "show", "{portal}"),
              "mcp:servers:read", arguments=PORTAL),
    Operation("accounts_connect", ("POST", "/v1/mcp/servers/{portal}/account/connect"),
              ("accounts", "connect", "{portal}", "--no-wait"), "mcp:servers:read", "accounts.ask", arguments=PORTAL),
    Operation("accounts_set", ("PUT", "/v1/mcp/servers/{vault}/account"),
              ("accounts", "set", "{vault}", "--header", "X-Account=HOME"), "mcp:servers:read", "accounts.set",
              BROUGHT, {**VAULT, **BROUGHT}, before=("PUT", LOGIN, STATIC), as_json=False),
    Operation("accounts_remove", ("DELETE", "/v1/mcp/servers/{vault}/account"), ("accounts", "remove", "{vault}"),
              "mcp:servers:read", "accounts.delete", arguments=VAULT, as_json=False),
    Operation("logins_remove", ("DELETE", LOGIN), ("logins", "remove", "{vault}"), "mcp:servers:update",
              "logins.delete", arguments=VAULT, others=SEES, as_json=False),
)  # fmt: skip

OPERATIONS = (
    # Who may use what
    Operation("access_rules_list", ("GET", RULES), ("access", "list"), "access:read"),
    Operation(
        "access_rules_create",
        ("POST", RULES),
        ("access", "allow", "none__*", "--team", "{team}"),
        "access:manage",
        "access.rules.create",
        ALLOW,
        ALLOW,
    ),
    Operation(
        "access_rules_create",
        ("POST", RULES),
        ("access", "deny", "none__*", "--role", "viewer", "--only", "tool", "--name", "no", "--before", "{access}"),
        "access:manage",
        "access.rules.create",
        {**DENY, "before": "{access}"},
        {**DENY, "before": "{access}"},
    ),
    Operation(
        "access_rules_delete",
        ("DELETE", f"{RULES}/{{access}}"),
        ("access", "remove", "{access}"),
        "access:manage",
        "access.rules.delete",
        arguments={"id": "{access}"},
    ),
    Operation("teams_list", ("GET", TEAMS), ("teams", "list"), "teams:read"),
    Operation(
        "teams_get", ("GET", f"{TEAMS}/{{team}}"), ("teams", "show", "{team}"), "teams:read", arguments={"id": "{team}"}
    ),
    Operation(
        "teams_create",
        ("POST", TEAMS),
        ("teams", "create", "new-{number}"),
        "teams:manage",
        "teams.create",
        {"name": "new-{number}"},
        {"name": "new-{number}"},
    ),
    Operation(
        "teams_update",
        ("PUT", f"{TEAMS}/{{team}}"),
        ("teams", "update", "{team}", "--description", "other"),
        "teams:manage",
        "teams.update",
        {"description": "other"},
        {"id": "{team}", "description": "other"},
    ),
    Operation(
        "teams_delete",
        ("DELETE", f"{TEAMS}/{{team}}"),
        ("teams", "delete", "{team}"),
        "teams:manage",
        "teams.delete",
        arguments={"id": "{team}"},
    ),
    Operation(
        "teams_put_member",
        ("PUT", f"{TEAMS}/{{team}}/members/{{user}}"),
        ("teams", "add-member", "{team}", "{user}", "--lead"),
        "teams:manage",
        "teams.members.put",
        {"role": "lead"},
        {"id": "{team}", "user": "{user}", "role": "lead"},
    ),
    Operation(
        "teams_remove_member",
        ("DELETE", f"{TEAMS}/{{team}}/members/{{user}}"),
        ("teams", "remove-member", "{team}", "{user}"),
        "teams:manage",
        "teams.members.remove",
        arguments={"id": "{team}", "user": "{user}"},
        before=("PUT", f"{TEAMS}/{{team}}/members/{{user}}"),
    ),
    Operation(
        "tools_why",
        ("GET", "/v1/tools/{tool}/why"),
        ("why", "{tool}"),
        "mcp:servers:read",
        arguments={"tool": "{tool}"},
    ),
    # Budgets
    Operation("budget_summary", ("GET", f"{BUDGET}/summary"), ("budget", "summary"), "budgets:read"),
    Operation("budget_by_project", ("GET", f"{BUDGET}/by-project"), ("budget", "by-project"), "budgets:read"),
    Operation("budget_by_agent", ("GET", f"{BUDGET}/by-agent"), ("budget", "by-agent"), "budgets:read"),
    Operation(
        "budget_timeline",
        ("GET", f"{BUDGET}/timeline?granularity=week"),
        ("budget", "timeline", "--by", "week"),
        "budgets:read",
        arguments={"granularity": "week"},
    ),
    Operation("budget_limits_list", ("GET", f"{BUDGET}/limits"), ("budget", "limits", "list"), "budgets:read"),
    Operation(
        "budget_limits_create",
        ("POST", f"{BUDGET}/limits"),
        ("budget", "limits", "create", "new", "5", "--unit", "calls", "--scope", "user", "--for", "{user}"),
        "budgets:manage",
        "budgets.limits.create",
        LIMIT,
        LIMIT,
    ),
    Operation(
        "budget_limits_update",
        ("PATCH", f"{BUDGET}/limits/{{limit}}"),
        ("budget", "limits", "update", "{limit}", "--amount", "70"),
        "budgets:manage",
        "budgets.limits.update",
        {"amount": 70},
        {"id": "{limit}", "amount": 70},
    ),
    Operation(
        "budget_limits_resume",
        ("POST", f"{BUDGET}/limits/{{limit}}/resume"),
        ("budget", "limits", "resume", "{limit}"),
        "budgets:manage",
        "budgets.limits.resume",
        arguments={"id": "{limit}"},
    ),
    Operation(
        "budget_limits_delete",
        ("DELETE", f"{BUDGET}/limits/{{limit}}"),
        ("budget", "limits", "delete", "{limit}"),
        "budgets:manage",
        "budgets.limits.delete",
        arguments={"id": "{limit}"},
    ),
    Operation("budget_timezone_get", ("GET", f"{BUDGET}/timezone"), ("budget", "timezone"), "budgets:read"),
    Operation(
        "budget_timezone_set",
        ("PUT", f"{BUDGET}/timezone"),
        ("budget", "timezone", "Europe/Berlin"),
        "budgets:manage",
        "budgets.timezone",
        TIMEZONE,
        TIMEZONE,
    ),
    Operation(
        "budget_prices_set",
        ("PUT", "/v1/mcp/servers/{server}/tools/say/price"),
        ("budget", "price", "{server}", "say", "0.01"),
        "mcp:servers:update",
        "servers.price",
        {"price_usd": 0.01},
        PRICE,
        ("mcp:servers:read",),
    ),
    # The emergency stop
    Operation(
        "emergency_status",
        ("GET", f"{EMERGENCY}/status"),
        ("emergency", "status"),
        "mcp:health:read",
        instead=("emergency:manage",),
    ),
    Operation(
        "emergency_pause",
        ("POST", f"{EMERGENCY}/pause-all"),
        ("emergency", "pause", "A test."),
        "emergency:manage",
        "emergency.pause",
        {"reason": "A test."},
        {"reason": "A test."},
    ),
    Operation(
        "emergency_resume",
        ("POST", f"{EMERGENCY}/resume-all"),
        ("emergency", "resume"),
        "emergency:manage",
        "emergency.resume",
        before=("POST", f"{EMERGENCY}/pause-all"),
    ),
    # Pins and approvals
    Operation("pins_list", ("GET", PINS), ("pins", "list", "echo"), "approvals:read", arguments={"server": "echo"}),
    Operation(
        "pins_approve",
        ("POST", f"{PINS}/{{pin}}/approve"),
        ("pins", "approve", "echo", "{pin}"),
        "approvals:decide",
        "pins.approve",
        arguments=ONE_PIN,
        others=("approvals:read",),
    ),
    Operation(
        "pins_keep",
        ("POST", f"{PINS}/{{pin}}/keep"),
        ("pins", "keep", "echo", "{pin}"),
        "approvals:decide",
        "pins.keep",
        arguments=ONE_PIN,
        others=("approvals:read",),
    ),
    Operation("approvals_list", ("GET", APPROVALS), ("approvals", "list"), "approvals:read"),
    Operation(
        "approvals_approve",
        ("POST", f"{APPROVALS}/{{approval}}/approve"),
        ("approvals", "approve", "{approval}"),
        "approvals:decide",
        "approvals.approve",
        arguments={"id": "{approval}"},
    ),
    Operation(
        "approvals_deny",
        ("POST", f"{APPROVALS}/{{approval}}/deny"),
        ("approvals", "deny", "{approval}", "--reason", "no"),
        "approvals:decide",
        "approvals.deny",
        body={"reason": "no"},
        arguments={"id": "{approval}", "reason": "no"},
    ),
    Operation("approvals_rules_list", ("GET", f"{APPROVALS}/rules"), ("approvals", "rules", "list"), "approvals:read"),
    Operation(
        "approvals_rules_create",
        ("POST", f"{APPROVALS}/rules"),
        ("approvals", "rules", "create", "new", "--tool", "none__*", "--argument", "a", "gt", "5"),
        "approvals:manage",
        "approvals.rules.create",
        CAREFUL,
        CAREFUL,
    ),
    Operation(
        "approvals_rules_delete",
        ("DELETE", f"{APPROVALS}/rules/{{rule}}"),
        ("approvals", "rules", "delete", "{rule}"),
        "approvals:manage",
        "approvals.rules.delete",
        arguments={"id": "{rule}"},
    ),
    # What happened
    Operation("usage_summary", ("GET", "/v1/usage/summary"), ("usage", "summary"), "usage:read"),
    Operation("metrics_query", ("GET", "/v1/usage/groups?by=tool"), ("usage", "by", "tool"), "usage:read"),
    Operation("usage_calls", ("GET", "/v1/usage/calls"), ("usage", "calls"), "usage:read"),
    Operation("audit_search", ("GET", "/v1/audit"), ("audit", "search"), "audit:read"),
    Operation("audit_export", ("GET", "/v1/audit/export?format=csv"), ("audit", "export"), "audit:read", as_json=False),
    Operation("audit_verify", ("POST", "/v1/audit/verify"), ("audit", "verify"), "audit:read"),
    *HEALTH,
    *PEOPLE,
)
