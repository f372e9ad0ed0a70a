"""What a definition is pinned by: the hash of its canonical JSON, and how two definitions differ.

Left out are `_meta` and `icons`: they change without a meaning for a model, and a held tool is a broken one.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Any

import msgspec

from registry.pins.flags import made_visible

NOT_PINNED = ("_meta", "icons")
INSTRUCTIONS = "instructions"
"""The kind of the pin of what a server says of itself; its definition is an object with this one member."""

_encoder = msgspec.json.Encoder(order="sorted")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def digest_of(definition: str) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of what is pinned.

    Raises:
        msgspec.DecodeError, RecursionError: it is no JSON object, or nested beyond reading.
    """
    return hashlib.sha256(_encoder.encode(_pinned(definition))).hexdigest()


def instructions_text(instructions: str | None) -> str:
    """A server's instructions as a definition."""
    return json.dumps({INSTRUCTIONS: instructions or ""}, ensure_ascii=False)


def difference(approved: str | None, held: str) -> str:
    """A unified difference of the two, as indented JSON in which nothing is invisible."""
    before = _pretty(approved) if approved is not None else []
    return "\n".join(difflib.unified_diff(before, _pretty(held), "approved", "held", lineterm=""))


def _pinned(definition: str) -> dict[str, Any]:
    return {name: value for name, value in _decode(definition).items() if name not in NOT_PINNED}


def _pretty(definition: str) -> list[str]:
    text = json.dumps(_pinned(definition), indent=2, sort_keys=True, ensure_ascii=False)
    return [made_visible(line) for line in text.splitlines()]
