"""One capability's definition: the server's own JSON, ready to be listed under another name and to either era.

Fields that nobody here knows survive. What a legacy client cannot take (an `outputSchema` whose root is not an object)
is left out for it; a tool with invalid `x-mcp-header` annotations is left out for everybody, as the specification asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.mcp.apps import shown_as, shown_by
from gateway.mcp.envelope import UNREADABLE, encode
from gateway.mcp.headers import invalid_param_headers, param_headers

if TYPE_CHECKING:
    from registry.servers.connection import Kind

_NAME_FIELD: dict[Kind, str] = {"tool": "name", "prompt": "name", "resource": "uri", "template": "uriTemplate"}
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ToolHints(msgspec.Struct, frozen=True):
    """A tool's annotations, with the specification's defaults: an unmarked tool may do anything."""

    readOnlyHint: bool = False
    destructiveHint: bool = True
    idempotentHint: bool = False
    openWorldHint: bool = True


class Definition:
    """A capability of one server.

    Args:
        fields: the definition's members, each as JSON.
        permission: needed to see and use it, beside those for its kind.

    Attributes:
        ui: the URI of the resource that shows a tool's results.
    """

    __slots__ = ("fields", "hints", "kind", "name", "param_headers", "permission", "ui")

    def __init__(self, kind: Kind, name: str, fields: dict[str, msgspec.Raw], *, permission: str | None = None) -> None:
        self.kind: Kind = kind
        self.name = name
        self.fields = fields
        self.permission = permission
        self.hints = _hints(fields) if kind == "tool" else ToolHints()
        self.param_headers = param_headers(_schema(fields)) if kind == "tool" else {}
        self.ui = shown_by(fields) if kind == "tool" else None

    def listed(self, exposed: str, *, modern: bool, ui: str | None = None) -> bytes:
        """The definition as a list shows it, under the name that callers use.

        Args:
            ui: what callers know `self.ui` by, where that is another URI.
        """
        fields = dict(self.fields if ui is None else shown_as(self.fields, ui))
        fields[_NAME_FIELD[self.kind]] = msgspec.Raw(encode(exposed))
        if not modern and self.kind == "tool" and not _object_rooted(fields.get("outputSchema")):
            fields.pop("outputSchema", None)
        return encode(fields)


def read_definition(kind: Kind, name: str, text: str, *, permission: str | None = None) -> Definition | None:
    """A definition from stored text; `None` where it must not be offered."""
    try:
        fields = _decode(text)
        if kind == "tool" and invalid_param_headers(_schema(fields)):
            return None
    except (*UNREADABLE, UnicodeEncodeError, RecursionError):
        # One definition that cannot be read must not keep the others from being offered.
        return None
    return Definition(kind, name, fields, permission=permission)


def _schema(fields: dict[str, msgspec.Raw]) -> Any:
    raw = fields.get("inputSchema")
    # Most schemas have no annotated parameters; looking for the word first saves parsing every one of them.
    return msgspec.json.decode(raw) if raw is not None and b"x-mcp-header" in bytes(raw) else None


def _hints(fields: dict[str, msgspec.Raw]) -> ToolHints:
    raw = fields.get("annotations")
    if raw is None:
        return ToolHints()
    try:
        return msgspec.json.decode(raw, type=ToolHints)
    except UNREADABLE:
        return ToolHints()


def _object_rooted(raw: msgspec.Raw | None) -> bool:
    if raw is None:
        return True
    try:
        schema = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return False
    return bytes(schema.get("type", msgspec.Raw())) == b'"object"'
