"""MCP Apps: a tool names the `ui://` resource that shows its results, and the name must lead to its own server.

The resource itself is read like any other; what is shown is the host's affair. Source: SEP-1865, which also had an
older, flat member for the same thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.mcp.envelope import UNREADABLE, decode_params, decode_text, encode

if TYPE_CHECKING:
    from gateway.mcp.envelope import Params

_MEMBER = "resourceUri"
_FLAT = "ui/resourceUri"


def shown_by(fields: Params) -> str | None:
    """The URI of the resource that shows a tool's results, from the members of its definition."""
    meta = fields.get("_meta")
    if meta is None or _MEMBER.encode() not in bytes(meta):
        return None
    try:
        given = decode_params(meta)
        raw = decode_params(given["ui"]).get(_MEMBER) if "ui" in given else None
        raw = raw if raw is not None else given.get(_FLAT)
        return None if raw is None else decode_text(raw)
    except UNREADABLE:
        return None


def shown_as(fields: Params, uri: str) -> Params:
    """The members with another URI, in each place that has one."""
    meta, new = decode_params(fields["_meta"]), msgspec.Raw(encode(uri))
    if _FLAT in meta:
        meta[_FLAT] = new
    if "ui" in meta and _MEMBER in (ui := decode_params(meta["ui"])):
        meta["ui"] = msgspec.Raw(encode({**ui, _MEMBER: new}))
    return {**fields, "_meta": msgspec.Raw(encode(meta))}
