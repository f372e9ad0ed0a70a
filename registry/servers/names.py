"""The names that callers use where several servers meet: `{server}__{name}`, and `{server}+{uri}` for resources.

What an MCP App shows must stay a `ui://` address, or its host refuses it: there the server comes after the scheme.
Source: DESIGN §5; SEP-1865. A slug has neither an underscore nor a plus sign, so the first separator splits.
"""

from __future__ import annotations

import hashlib
from typing import Final

SEPARATOR: Final = "__"
URI_SEPARATOR: Final = "+"
UI_SCHEME: Final = "ui://"
MAX_NAME: Final = 64


def prefixed(slug: str, name: str) -> str:
    """The name with its server's slug; one that is longer than clients accept is cut and made unique by a hash."""
    full = f"{slug}{SEPARATOR}{name}"
    if len(full) <= MAX_NAME:
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[:8]
    return f"{full[: MAX_NAME - 9]}_{digest}"


def prefixed_uri(slug: str, uri: str) -> str:
    scheme = UI_SCHEME if uri.startswith(UI_SCHEME) else ""
    return f"{scheme}{slug}{URI_SEPARATOR}{uri[len(scheme) :]}"


def split_uri(uri: str) -> tuple[str, str] | None:
    """What may be a slug, and the URI without it, of one that is written as `prefixed_uri` does."""
    scheme = UI_SCHEME if uri.startswith(UI_SCHEME) else ""
    head, separator, rest = uri[len(scheme) :].partition(URI_SEPARATOR)
    return (head, scheme + rest) if separator else None
