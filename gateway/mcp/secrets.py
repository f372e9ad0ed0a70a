"""The stored secrets of an organisation's servers, as what must not be found in the arguments of a call to another one.

Arguments are sampled, not searched: wherever a secret of `LONG` bytes or more lies, eight of its bytes are at a place
that is a multiple of eight, and those are looked up among all eight-byte pieces of the secrets at once. The longer the
shortest of them, the fewer places must be looked at. Only where something is found, each form of each secret is
searched for, as each of the shorter ones is always. Forms are: as it is, within JSON, in a URL, and in Base64 at each
of its three alignments.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import msgspec

from gateway.mcp.envelope import encode

if TYPE_CHECKING:
    from registry.servers.connection import Connection

SHORTEST = 8
"""Characters of the shortest secret that is looked for: shorter ones are found in anything."""
LONG = 15
_SHORT = 7

_HARMLESS_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "content-type", "origin", "referer", "user-agent"}
)
_SECRET_NAME = re.compile(r"key|token|secret|pass|pwd|auth|cred|private|cookie|dsn|sig", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_+=-]{20,}|.*://[^/\s:]*:[^/\s@]+@.*", re.DOTALL)
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|digest) +(.+)", re.IGNORECASE | re.DOTALL)


class Secrets:
    """What is looked for, of one organisation."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._owners: dict[bytes, set[str]] = {}
        for connection in connections:
            for value in _values(connection):
                for form in _forms(value):
                    self._owners.setdefault(form, set()).add(connection.server_id)
        long = [form for form in self._owners if len(form) >= LONG]
        self._short = [form for form in self._owners if len(form) < LONG]
        self._step = (min(map(len, long), default=LONG) - 7) // 8
        self._eights = frozenset(
            int.from_bytes(form[at : at + 8], sys.byteorder) for form in long for at in range(len(form) - 7)
        )

    @property
    def any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._owners)

    def found(self, text: bytes, server_id: str) -> str | None:
        """The id of a server whose secret is in JSON text that goes to another one; `None` if there is none."""
        if b"\\u" in text or b"\\/" in text:
            # Characters may be written in ways in which nobody would find them.
            text = _plainly(text)
        return self._search(text, server_id) if self._suspicious(text) else None

    def _suspicious(self, text: bytes) -> bool:
        if not self._eights.isdisjoint(memoryview(text)[: len(text) & ~7].cast("Q")[:: self._step]):
            return True
        return bool(self._short) and any(form in text for form in self._short)

    def _search(self, text: bytes, server_id: str) -> str | None:
        for form, owners in self._owners.items():
            # Who has the secret itself may be sent it.
            if server_id not in owners and form in text:
                return min(owners)
        return None


def _values(connection: Connection) -> set[str]:
    """The secrets among a server's headers and environment: what is named or looks like one."""
    found: set[str] = set()
    for name, value in connection.headers:
        if name.lower() not in _HARMLESS_HEADERS:
            found.add(value)
            if (bare := _SCHEME.fullmatch(value.strip())) is not None:
                found.add(bare[1])
    found |= {value for name, value in connection.env if _SECRET_NAME.search(name) or _RANDOM.fullmatch(value)}
    return {value.strip() for value in found if len(value.strip()) >= SHORTEST}


def _forms(value: str) -> set[bytes]:
    raw = value.encode()
    made = {raw, encode(value)[1:-1], quote(value, safe="").encode(), quote_plus(value).encode()}
    for before in range(3):
        # What stands before it moves the secret within Base64, and the characters at its ends are shared with others.
        text = base64.b64encode(b"\0" * before + raw)
        inner = text[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        made |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in made if len(form) >= _SHORT}


def _plainly(text: bytes) -> bytes:
    try:
        return encode(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return text
