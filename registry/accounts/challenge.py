"""What a server says when it wants a token, or another one: the parameters of its `WWW-Authenticate` header.

Sources: RFC 6750 section 3, RFC 9728 section 5.1. It comes from a stranger: what cannot be read is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
_MOST_SCOPES = 50
INSUFFICIENT = "insufficient_scope"


@dataclass(frozen=True, slots=True)
class Challenge:
    """Args:
    error: empty where no token was shown.
    scope: that the request needs; empty where the server does not say.
    resource_metadata: address of the server's metadata; empty where it does not say.
    """

    error: str = ""
    scope: str = ""
    resource_metadata: str = ""


def read(header: str) -> Challenge:
    """The challenge for a bearer token in a header's value."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return Challenge()
    found = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    return Challenge(found.get("error", ""), scopes(found.get("scope", "")), found.get("resource_metadata", ""))


def scopes(text: str, *more: str) -> str:
    """These scopes, each once, in their order; without what is none (RFC 6749 section 3.3)."""
    every = [scope for scope in " ".join((text, *more)).split(" ") if _SCOPE.fullmatch(scope)]
    return " ".join(list(dict.fromkeys(every))[:_MOST_SCOPES])
