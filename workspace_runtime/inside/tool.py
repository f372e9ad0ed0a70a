"""What a tool is: its name, its schemas, what it does to the world, and the function behind it.

Schemas are JSON Schema in the small part of it that `check` knows: types, required, enum, bounds, items.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from workspace_runtime.inside.failure import ToolFailure

Schema = dict[str, Any]
Say = Callable[[float, str], None]
"""Tell the caller how far it is, and a piece of what it says meanwhile."""

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True)
class Result:
    """What a tool gives.

    Args:
        structured: as its output schema says.
        text: the same for a reader; the structured result as JSON if it is not given.
        failed: the tool was carried out, and what it did ended badly.
    """

    structured: dict[str, Any]
    text: str | None = None
    failed: bool = False

    def said(self) -> str:
        return json.dumps(self.structured, ensure_ascii=False) if self.text is None else self.text


def _silent(progress: float, message: str) -> None:
    return


@dataclass(frozen=True)
class Call:
    """One call of a tool.

    Args:
        credentials: for git's remotes, injected by the gateway; never stored.
    """

    arguments: Mapping[str, Any]
    say: Say = _silent
    credentials: tuple[Mapping[str, str], ...] = ()

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


@dataclass(frozen=True)
class Tool:
    """A tool.

    Args:
        run: the function behind it. A plain one is run in a thread.
        input: the parameters by name; `required` names those that must be given.
    """

    name: str
    title: str
    description: str
    run: Callable[[Call], Result | Awaitable[Result]]
    input: dict[str, Schema]
    output: Schema
    required: tuple[str, ...] = ()
    reads_only: bool = False
    destroys: bool = False
    idempotent: bool = False
    open_world: bool = False
    schema: Schema = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", obj(self.input, self.required))

    def definition(self) -> dict[str, Any]:
        """The tool as `tools/list` shows it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.schema,
            "outputSchema": self.output,
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.reads_only,
                "destructiveHint": self.destroys,
                "idempotentHint": self.idempotent or self.reads_only,
                "openWorldHint": self.open_world,
            },
        }


def text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def whole(description: str, **more: Any) -> Schema:
    return {"type": "integer", "description": description, **more}


def flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def array(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def obj(properties: Mapping[str, Schema], required: tuple[str, ...] = (), description: str = "") -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    if description:
        schema["description"] = description
    return schema


def gives(properties: Mapping[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """An output schema: everything is always there, but what is optional."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


def check(value: Any, schema: Schema, name: str = "") -> None:
    """Raises:
    ToolFailure: it is not as the schema says.
    """
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        raise ToolFailure(f"{name or 'the arguments'} must be of type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise ToolFailure(f"{name} must be one of {', '.join(schema['enum'])}")
    if kind == "integer" and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        raise ToolFailure(f"{name} must be from {schema.get('minimum', 'any')} to {schema.get('maximum', 'any')}")
    if kind == "array":
        for index, item in enumerate(value):
            check(item, schema["items"], f"{name}[{index}]")
    if kind == "object":
        _check_object(value, schema, name)


def _check_object(value: dict[str, Any], schema: Schema, name: str) -> None:
    properties = schema.get("properties", {})
    prefix = f"{name}." if name else ""
    for missing in [wanted for wanted in schema.get("required", ()) if wanted not in value]:
        raise ToolFailure(f"{prefix}{missing} must be given")
    further = schema.get("additionalProperties", True)
    for key, item in value.items():
        if key in properties:
            check(item, properties[key], f"{prefix}{key}")
        elif further is False:
            raise ToolFailure(f"there is no parameter {prefix}{key}; there are {', '.join(properties)}")
        elif isinstance(further, dict):
            check(item, cast("Schema", further), f"{prefix}{key}")
