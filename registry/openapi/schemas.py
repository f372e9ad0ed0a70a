"""A description's schemas as JSON Schema that stands alone: what it refers to comes along, under `$defs`.

References out of the document are cut off, never followed; recursive schemas stay references, so they are as large as
they are written. Source: OpenAPI 3.0.4 (Schema Object), 3.1.1, and JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from typing import Any, cast

from registry.openapi.description import Description, Node, as_node

MAX_DEPTH = 48
_DROPPED = frozenset(
    {"$id", "$schema", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "$defs", "definitions"}
    | {"xml", "externalDocs", "discriminator", "example", "nullable"}
)
_LITERAL = frozenset({"const", "default", "enum", "examples", "required"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})


class SchemaWriter:
    """Writes the schemas of one tool.

    Args:
        cut: how many references could not be followed.
    """

    def __init__(self, description: Description) -> None:
        self._description = description
        self._names: dict[str, str] = {}
        self._definitions: dict[str, Any] = {}
        self.cut = 0

    def write(self, schema: Any, depth: int = 0) -> Any:
        """The schema, with references to `definitions`."""
        if depth > MAX_DEPTH:
            self.cut += 1
            return {}
        if not isinstance(schema, dict):
            return schema if isinstance(schema, bool) else {}
        node = cast("Node", schema)
        reference = node.get("$ref") or node.get("$dynamicRef")
        if isinstance(reference, str):
            return self._refer(reference, node, depth)
        return self._object(node, depth)

    def root(self, schema: Any) -> Node:
        """The schema of an object, without a reference at its head."""
        written = self.write(schema)
        for _ in range(MAX_DEPTH):
            node = as_node(written)
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            written = self._definitions[reference.removeprefix("#/$defs/")]
        return {}

    def with_definitions(self, schema: Node) -> Node:
        return {**schema, "$defs": dict(self._definitions)} if self._definitions else schema

    def _refer(self, reference: str, node: Node, depth: int) -> Any:
        name = self._names.get(reference)
        if name is None:
            target = self._description.at(reference)
            if not isinstance(target, dict | bool):
                self.cut += 1
                return {}
            name = self._names[reference] = self._free(reference)
            # The name stands before the schema is written: that is what lets a schema refer to itself.
            self._definitions[name] = {}
            self._definitions[name] = self.write(target, depth + 1)
        written: Node = {"$ref": f"#/$defs/{name}"}
        if not self._description.is_30 and isinstance(node.get("description"), str):
            written["description"] = node["description"]
        return written

    def _object(self, node: Node, depth: int) -> Node:
        written: Node = {}
        for key, value in node.items():
            if key in _DROPPED or key.startswith("x-"):
                continue
            if key in _LITERAL:
                written[key] = value
            elif key in _NAMED:
                written[key] = {name: self.write(below, depth + 1) for name, below in as_node(value).items()}
            elif isinstance(value, dict):
                written[key] = self.write(value, depth + 1)
            elif isinstance(value, list) and key in ("allOf", "anyOf", "oneOf", "prefixItems"):
                written[key] = [self.write(below, depth + 1) for below in cast("list[Any]", value)]
            else:
                written[key] = value
        return _newer(written, node) if self._description.is_30 else written

    def _free(self, reference: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rpartition("/")[2])[:64] or "schema"
        name, number = stem, 2
        while name in self._definitions:
            name, number = f"{stem}_{number}", number + 1
        return name


def _newer(written: Node, node: Node) -> Node:
    """What OpenAPI 3.0 says in its own way, in JSON Schema's."""
    if node.get("nullable") is True:
        kind = written.get("type")
        if isinstance(kind, str):
            written["type"] = [kind, "null"]
        if isinstance(written.get("enum"), list) and None not in written["enum"]:
            written["enum"] = [*written["enum"], None]
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        flag = written.get(exclusive)
        if isinstance(flag, bool):
            del written[exclusive]
            if flag and limit in written:
                written[exclusive] = written.pop(limit)
    return written
