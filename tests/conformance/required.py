"""What the two revisions require, as the suite froze it at their release.

Client scenarios whose names begin with `auth/` are about a client's OAuth: the gateway is such a client where a server
asks for a token.
"""

from __future__ import annotations

LEGACY, MODERN = "2025-11-25", "2026-07-28"

_SERVER_BOTH = (
    "completion-complete",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-embedded-resource",
    "tools-call-mixed-content",
    "tools-call-error",
    "tools-call-with-progress",
    "server-sse-multiple-streams",
    "resources-list",
    "resources-read-text",
    "resources-read-binary",
    "resources-templates-read",
    "prompts-list",
    "prompts-get-simple",
    "prompts-get-with-args",
    "prompts-get-embedded-resource",
    "prompts-get-with-image",
    "dns-rebinding-protection",
)

SERVER: dict[str, tuple[str, ...]] = {
    LEGACY: (
        *_SERVER_BOTH,
        "server-initialize",
        "logging-set-level",
        "ping",
        "tools-call-with-logging",
        "tools-call-sampling",
        "tools-call-elicitation",
        "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
        "resources-subscribe",
        "resources-unsubscribe",
    ),
    MODERN: (
        *_SERVER_BOTH,
        "server-stateless",
        "sep-2164-resource-not-found",
        "caching",
        "input-required-result-basic-elicitation",
        "input-required-result-basic-sampling",
        "input-required-result-basic-list-roots",
        "input-required-result-request-state",
        "input-required-result-multiple-input-requests",
        "input-required-result-multi-round",
        "input-required-result-missing-input-response",
        "input-required-result-non-tool-request",
        "input-required-result-result-type",
        "input-required-result-unsupported-methods",
        "input-required-result-tampered-state",
        "input-required-result-capability-check",
        "input-required-result-ignore-extra-params",
        "input-required-result-validate-input",
    ),
}

SERVER_UNSCORED: dict[str, tuple[str, ...]] = {
    LEGACY: ("server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"),
    MODERN: (
        "tasks-lifecycle",
        "tasks-capability-negotiation",
        "tasks-wire-fields",
        "tasks-request-state-removal",
        "tasks-mrtr-input",
        "tasks-request-headers",
        "tasks-dispatch-and-envelope",
        "tasks-status-notifications",
        "tasks-required-task-error",
        "tasks-mrtr-composition",
        "json-schema-2020-12",
        "http-header-validation",
        "http-custom-header-server-validation",
    ),
}
"""What the suite only reports: it is run, and must pass or be in the baseline, all the same."""

CLIENT: dict[str, tuple[str, ...]] = {
    LEGACY: ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"),
    MODERN: (
        "tools_call",
        "request-metadata",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "sep-2322-client-request-state",
        "json-schema-ref-no-deref",
    ),
}
"""Without those of authorization."""

_AUTH_BOTH = (
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
)

AUTH: dict[str, tuple[str, ...]] = {
    LEGACY: _AUTH_BOTH,
    MODERN: (
        *_AUTH_BOTH,
        "auth/resource-mismatch",
        "auth/offline-access-scope",
        "auth/offline-access-not-supported",
        "auth/authorization-server-migration",
        "auth/iss-supported",
        "auth/iss-not-advertised",
        "auth/iss-supported-missing",
        "auth/iss-wrong-issuer",
        "auth/iss-unexpected",
        "auth/iss-normalized",
        "auth/metadata-issuer-mismatch",
    ),
}
"""Client scenarios of authorization."""

AUTH_UNSCORED: dict[str, tuple[str, ...]] = {
    LEGACY: ("auth/client-credentials-basic", "auth/client-credentials-jwt"),
    MODERN: ("auth/client-credentials-basic", "auth/client-credentials-jwt"),
}

AUTH_NOT_BUILT: dict[str, str] = {
    "auth/enterprise-managed-authorization": "the gateway does not exchange people's identity tokens",
    "auth/dpop": "the gateway shows bearer tokens only",
    "auth/dpop-nonce": "the gateway shows bearer tokens only",
    "auth/wif-jwt-bearer": "the gateway has no identity of a workload to show",
}
"""Extensions of authorization that are not scored, and why they are not run."""

CLIENT_UNSCORED: dict[str, tuple[str, ...]] = {
    LEGACY: ("json-schema-2020-12-preservation",),
    MODERN: ("json-schema-2020-12-preservation",),
}

_SKILLS = "the skills extension (SEP-2640) is of hosts that read skills: the gateway passes its resources on unread"
_NO_SKILLS = (
    "neither the fixture's SDK nor the gateway has the methods of the skills extension (SEP-2640): undeclared, "
)
_NO_SKILLS += "each check is skipped"
NOT_DRIVEN: dict[str, dict[str, str]] = {
    "server": {
        "sep-2640-skills-directory": _NO_SKILLS,
        "sep-2640-skills-enumeration": _NO_SKILLS,
        "sep-2640-skills-manifest": _NO_SKILLS,
    },
    "client": {
        **AUTH_NOT_BUILT,
        "auth/2025-03-26-oauth-endpoint-fallback": "an issuer without metadata does not say that it has PKCE, and is "
        "refused, as later revisions demand",
        "sep-2640-client-no-prefetch": _SKILLS,
        "sep-2640-client-verify-digest": _SKILLS,
        "sep-2640-client-verify-size": _SKILLS,
        "sep-2640-client-verify-frontmatter": _SKILLS,
    },
    "authorization server": {},
}
"""What no revision scores and nothing here runs, and why."""

AUTH_OLDEST = ("auth/2025-03-26-oauth-metadata-backcompat",)
"""Of a revision that the suite scores no more: its servers issue their tokens themselves."""

AUTHORIZATION_SERVER = ("authorization-server-metadata-endpoint", "authorization-code-grant")
"""Of no revision: the gateway is the authorization server."""


def driven(side: str) -> list[str]:
    """Every scenario that is run, each once."""
    if side == "authorization server":
        return [*AUTHORIZATION_SERVER]
    client = [CLIENT, AUTH, CLIENT_UNSCORED, AUTH_UNSCORED]
    for_each = [SERVER, SERVER_UNSCORED] if side == "server" else client
    names = {name for table in for_each for scenarios in table.values() for name in scenarios}
    return [*sorted(names), *(AUTH_OLDEST if side == "client" else ())]
