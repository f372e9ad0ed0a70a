"""The names that callers use where several servers meet: `{server}__{name}`, and `{server}+{uri}` for resources.

Source: DESIGN §5. A slug has neither an underscore nor a plus sign, so the first separator splits.
"""

from __future__ import annotations

import hashlib
from typing import Final

SEPARATOR: Final = "__"
URI_SEPARATOR: Final = "+"
MAX_NAME: Final = 64


def prefixed(slug: str, name: str) -> str:
    """The name with its server's slug; one that is longer than clients accept is cut and made unique by a hash."""
    full = f"{slug}{SEPARATOR}{name}"
    if len(full) <= MAX_NAME:
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[:8]
    return f"{full[: MAX_NAME - 9]}_{digest}"


def prefixed_uri(slug: str, uri: str) -> str:
    return f"{slug}{URI_SEPARATOR}{uri}"
