"""An OpenAPI 3.1 description of tools as REST operations, made from their MCP definitions.

A tool's schemas may refer to parts of themselves (`#/$defs/…`); within the document they stand elsewhere, so those
references are led there. Nothing outside the definition is ever looked up. It knows no route and no caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import quote

from registry.core.version import VERSION

_LITERAL = frozenset({"const", "default", "enum", "example", "examples"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_REFUSALS = {
    "401": "The credential is missing or not good.",
    "402": "A budget limit is reached.",
    "403": "The caller may not call this tool.",
    "404": "There is no such tool for this caller.",
    "409": "The call waits for a person's approval.",
    "422": "The arguments are not accepted.",
    "429": "Too many calls.",
    "502": "The server failed; it is unknown whether it carried out the call.",
    "503": "The server cannot be reached, or an emergency stop is in force.",
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {},
        "request_id": {"type": "string"},
        "error": {"type": "object"},
    },
    "required": ["title", "status", "error"],
}
_CONTENT = {"type": "array", "items": {"type": "object", "required": ["type"]}}


def describe(definitions: Iterable[bytes], url: str) -> dict[str, Any]:
    """The document.

    Args:
        definitions: tools as MCP lists them, under the names that callers use.
        url: the gateway's own address.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for text in definitions:
        tool: dict[str, Any] = json.loads(text)
        name: str = tool["name"]
        key = _component(name, schemas)
        schemas[f"{key}.arguments"] = _moved(tool.get("inputSchema") or {"type": "object"}, f"{key}.arguments")
        structured: dict[str, Any] = {}
        if isinstance(tool.get("outputSchema"), dict):
            schemas[f"{key}.result"] = _moved(tool["outputSchema"], f"{key}.result")
            structured = _refer(f"{key}.result")
        paths[f"/v1/tools/{quote(name, safe='')}"] = {"post": _operation(tool, name, key, structured)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tools behind Gatehouse", "version": VERSION},
        "servers": [{"url": url}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(tool: dict[str, Any], name: str, key: str, structured: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [name.partition("__")[0]],
        "requestBody": {"content": {"application/json": {"schema": _refer(f"{key}.arguments")}}},
        "responses": {
            "200": {
                "description": "What the tool answered; a failure of the tool itself has isError.",
                "content": {"application/json": {"schema": _result(structured)}},
            },
            **{
                status: {"description": why, "content": {"application/json": {"schema": _refer("Problem")}}}
                for status, why in _REFUSALS.items()
            },
        },
    }
    for field, ours in (("title", "summary"), ("description", "description"), ("annotations", "x-mcp-annotations")):
        if tool.get(field):
            operation[ours] = tool[field]
    return operation


def _result(structured: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["content"],
        "properties": {"content": _CONTENT, "structuredContent": structured, "isError": {"type": "boolean"}},
    }


def _component(name: str, taken: dict[str, Any]) -> str:
    """A name that components may have, of its own for each tool."""
    base = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    key, number = base, 2
    while f"{key}.arguments" in taken:
        key, number = f"{base}-{number}", number + 1
    return key


def _refer(component: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{component}"}


def _moved(schema: Any, component: str) -> Any:
    """The schema as it must be written where it stands in the document."""
    if isinstance(schema, list):
        return [_moved(item, component) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("dict[str, Any]", schema)
    if isinstance(node.get("$id"), str):
        # It is a document of its own: what it refers to is within itself already.
        return node
    moved: dict[str, Any] = {}
    for name, value in node.items():
        if name in _LITERAL:
            moved[name] = value
        elif name in _NAMED and isinstance(value, dict):
            # Whatever these names are, a keyword's among them, each stands for a schema.
            moved[name] = {key: _moved(below, component) for key, below in cast("dict[str, Any]", value).items()}
        elif name in ("$ref", "$dynamicRef") and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            moved[name] = f"#/components/schemas/{component}{value[1:]}"
        else:
            moved[name] = _moved(value, component)
    return moved
