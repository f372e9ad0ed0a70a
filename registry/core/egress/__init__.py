"""The project's one way out: see `egress` for connections, `client` for HTTP, `policy` for what is allowed."""

from registry.core.egress.client import EgressClient, Response, StreamResponse
from registry.core.egress.egress import Egress, shared_tls_context
from registry.core.egress.errors import (
    AllowEntryInvalid,
    EgressFailed,
    EgressRefused,
    EgressTimeout,
    EgressTooLarge,
    EgressUnreachable,
    HeaderInvalid,
    UrlInvalid,
)
from registry.core.egress.policy import AllowRule, EgressPolicy, Refusal, parse_allow
from registry.core.egress.resolver import Lookup, Resolver
from registry.core.egress.target import Target, canonical_host, vet_url

__all__ = [
    "AllowEntryInvalid",
    "AllowRule",
    "Egress",
    "EgressClient",
    "EgressFailed",
    "EgressPolicy",
    "EgressRefused",
    "EgressTimeout",
    "EgressTooLarge",
    "EgressUnreachable",
    "HeaderInvalid",
    "Lookup",
    "Refusal",
    "Resolver",
    "Response",
    "StreamResponse",
    "Target",
    "UrlInvalid",
    "canonical_host",
    "parse_allow",
    "shared_tls_context",
    "vet_url",
]
