"""The gateway's own address as the caller has it: what tokens are issued for, and what the metadata names.

It is the configured public address, or else the `Host` that was asked for, which has been admitted before.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]


class Origin:
    """Args:
    public_url: `GATEHOUSE_PUBLIC_URL`.
    url: the listening address, for requests without a Host.
    """

    def __init__(self, public_url: str | None, url: str) -> None:
        self._fixed = public_url.rstrip("/") if public_url else None
        self._url = url

    def of(self, scope: Scope) -> str:
        """Without a slash at the end."""
        if self._fixed is not None:
            return self._fixed
        for name, value in scope["headers"]:
            if name == b"host":
                return f"{scope.get('scheme', 'http')}://{value.decode('latin-1').lower()}"
        return self._url
