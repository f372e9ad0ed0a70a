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
    LEGACY: ("auth/client-credentials-basic",),
    MODERN: ("auth/client-credentials-basic",),
}

AUTH_NOT_BUILT: dict[str, str] = {
    "auth/client-credentials-jwt": "the gateway authenticates with a secret, not with a key of its own",
    "auth/enterprise-managed-authorization": "the gateway does not exchange people's identity tokens",
    "auth/dpop": "the gateway shows bearer tokens only",
    "auth/dpop-nonce": "the gateway shows bearer tokens only",
    "auth/wif-jwt-bearer": "the gateway has no identity of a workload to show",
}
"""Extensions that are not scored, and why they are not run."""

CLIENT_UNSCORED: dict[str, tuple[str, ...]] = {
    LEGACY: ("json-schema-2020-12-preservation",),
    MODERN: ("json-schema-2020-12-preservation",),
}
