"""Tools from a description: each operation that was chosen becomes one.

A tool is named by its `operationId`, or by method and path. Its arguments are the operation's parameters and, as
`body`, the request's body. What cannot become a tool is left out, with a warning that says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from registry.openapi.description import Description, Node, as_list, as_node
from registry.openapi.errors import DescriptionInvalid
from registry.openapi.schemas import SchemaWriter
from registry.servers.operations import Body, Location, Operation, Parameter

MAX_OPERATIONS = 1000
MAX_DEFINITION = 256 * 1024
MAX_NAME = 64
MAX_TEXT = 4000
METHODS = ("get", "put", "post", "delete", "patch")

_STYLES: dict[Location, str] = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_KNOWN_STYLES: dict[Location, tuple[str, ...]] = {
    "path": ("simple",),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# OpenAPI describes these elsewhere, and asks to ignore them among parameters.
_NOT_PARAMETERS = frozenset({"accept", "content-type", "authorization"})


@dataclass(frozen=True, slots=True)
class Choice:
    """Which operations to take.

    Args:
        include, exclude: patterns (`fnmatch`) on an operation's id or tool name, on `tag:NAME`, on `METHOD`, or on
            `METHOD /path`. Without `include`, all that is not excluded.
        fixed: headers, in lower case, that the server's registration gives, so that no argument may.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def takes(self, words: Sequence[str]) -> bool:
        def hit(patterns: Sequence[str]) -> bool:
            return any(fnmatchcase(word, pattern) for word in words for pattern in patterns)

        return (not self.include or hit(self.include)) and not hit(self.exclude)


@dataclass(frozen=True, slots=True)
class Made:
    operations: tuple[Operation, ...]
    warnings: tuple[str, ...]


class _Unsupported(Exception):
    """Why an operation cannot become a tool."""


def make_tools(description: Description, choice: Choice) -> Made:
    """The tools of a description.

    Raises:
        DescriptionInvalid: nothing is left to call, or more than can be listed.
    """
    made: list[Operation] = []
    warnings: list[str] = []
    taken: set[str] = set()
    for method, path, item, node in _operations(description):
        name = _free_name(node, method, path, taken)
        words = [name, method.upper(), f"{method.upper()} {path}"]
        words += [f"tag:{tag}" for tag in as_list(node.get("tags"))]
        if isinstance(node.get("operationId"), str):
            words.append(node["operationId"])
        if not choice.takes(words):
            continue
        writer = SchemaWriter(description)
        try:
            operation = _operation(description, writer, choice, name, method, path, item, node)
        except _Unsupported as error:
            warnings.append(f"{method.upper()} {path} was left out: {error}")
            continue
        if writer.cut:
            warnings.append(
                f"{name}: {writer.cut} references lead nowhere within the description; anything fits there."
            )
        taken.add(name)
        made.append(operation)
    if not made:
        raise DescriptionInvalid("; ".join(["No operation is left to become a tool.", *warnings[:5]]), field="include")
    if len(made) > MAX_OPERATIONS:
        raise DescriptionInvalid(
            f"{len(made)} operations are more than {MAX_OPERATIONS}: choose some.", field="include"
        )
    return Made(tuple(made), tuple(warnings))


def _operations(description: Description) -> Iterator[tuple[str, str, Node, Node]]:
    for path, value in as_node(description.root.get("paths")).items():
        item = description.resolved(value)
        if not path.startswith("/"):
            continue
        for method in METHODS:
            if isinstance(item.get(method), dict):
                yield method, path, item, as_node(item[method])


def _operation(
    description: Description,
    writer: SchemaWriter,
    choice: Choice,
    name: str,
    method: str,
    path: str,
    item: Node,
    node: Node,
) -> Operation:
    properties: Node = {}
    parameters = _parameters(
        description, writer, choice, [*as_list(item.get("parameters")), *as_list(node.get("parameters"))], properties
    )
    _check_path(path, parameters)
    body = _body(description, writer, node, properties)
    required = [parameter.argument for parameter in parameters if parameter.required]
    required += [body.argument] if body is not None and body.required else []
    schema: Node = {"type": "object", "properties": properties, "additionalProperties": False}
    schema = writer.with_definitions({**schema, "required": required} if required else schema)
    output = _output(description, node)
    summary, text = str(node.get("summary") or "").strip(), str(node.get("description") or "").strip()
    definition: Node = {
        "name": name,
        "description": "\n\n".join(filter(None, [summary, text]))[:MAX_TEXT] or f"{method.upper()} {path}",
        "inputSchema": schema,
        "annotations": {
            "readOnlyHint": method == "get",
            "destructiveHint": method == "delete",
            "idempotentHint": method in ("get", "put", "delete"),
            "openWorldHint": True,
        },
    }
    if summary:
        definition["title"] = summary[:200]
    if output is not None:
        definition["outputSchema"] = output
    encoded = json.dumps(definition, separators=(",", ":"))
    if len(encoded) > MAX_DEFINITION:
        raise _Unsupported(f"its definition is larger than {MAX_DEFINITION // 1024} KiB")
    return Operation(name, method.upper(), path, tuple(parameters), body, output is not None, encoded)


def _parameters(
    description: Description, writer: SchemaWriter, choice: Choice, given: list[Any], properties: Node
) -> list[Parameter]:
    found: dict[tuple[str, str], Node] = {}
    for value in given:
        # An operation's own parameter comes later and replaces its path's.
        node = description.resolved(value)
        if isinstance(node.get("name"), str) and node.get("in") in _STYLES:
            found[node["in"], node["name"]] = node
    made: list[Parameter] = []
    for (where, name), node in found.items():
        location = cast("Location", where)
        if location == "header" and name.lower() in _NOT_PARAMETERS | choice.fixed:
            continue
        style = str(node.get("style") or _STYLES[location])
        explode = bool(node.get("explode", style == "form"))
        schema: Any = node.get("schema")
        content = as_node(node.get("content"))
        if content:
            style, schema = "json", as_node(next(iter(content.values()))).get("schema")
        elif style not in _KNOWN_STYLES[location]:
            raise _Unsupported(f"its parameter {name} has the style {style}")
        argument = name
        while argument in properties:
            argument += f"_{location}"
        written = writer.write(schema if schema is not None else {})
        if isinstance(node.get("description"), str) and isinstance(written, dict):
            written = {**cast("Node", written), "description": node["description"][:MAX_TEXT]}
        properties[argument] = written
        required = location == "path" or node.get("required") is True
        made.append(Parameter(argument, name, location, required, style, explode))
    return made


def _check_path(path: str, parameters: list[Parameter]) -> None:
    templated = set(re.findall(r"\{([^{}]*)\}", path))
    known = {parameter.name for parameter in parameters if parameter.location == "path"}
    if templated != known:
        raise _Unsupported(f"its path and its path parameters differ ({', '.join(sorted(templated ^ known))})")


def _body(description: Description, writer: SchemaWriter, node: Node, properties: Node) -> Body | None:
    given = description.resolved(node.get("requestBody"))
    content = as_node(given.get("content"))
    if not content:
        return None
    argument = "body"
    while argument in properties:
        argument = f"request_{argument}"
    for kind in ("json", "form", "text", "binary"):
        for content_type, media in content.items():
            if _kind(content_type) == kind:
                written = {"type": "string", "contentEncoding": "base64"} if kind == "binary" else None
                schema = as_node(media).get("schema")
                properties[argument] = written or writer.write(schema if schema is not None else {})
                return Body(argument, content_type, kind, given.get("required") is True)
    raise _Unsupported(f"it takes {', '.join(content)}, which the gateway does not write")


def _kind(content_type: str) -> Literal["json", "form", "text", "binary"] | None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return "json"
    if kind == "application/x-www-form-urlencoded":
        return "form"
    if kind.startswith("text/"):
        return "text"
    return None if kind.startswith("multipart/") or "*" in kind else "binary"


def _output(description: Description, node: Node) -> Node | None:
    """The schema of a good answer, where that is an object in JSON."""
    responses = as_node(node.get("responses"))
    answer = next((responses[status] for status in ("200", "201", "2XX") if status in responses), None)
    for content_type, media in as_node(description.resolved(answer).get("content")).items():
        if _kind(content_type) != "json":
            continue
        writer = SchemaWriter(description)
        schema = writer.root(as_node(media).get("schema"))
        if schema.get("type") == "object" or ("type" not in schema and "properties" in schema):
            return writer.with_definitions({**schema, "type": "object"})
        return None
    return None


def _free_name(node: Node, method: str, path: str, taken: set[str]) -> str:
    given = node.get("operationId")
    words = given if isinstance(given, str) and given.strip() else f"{method} {path}"
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", words).strip("_")[:MAX_NAME] or method
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem[: MAX_NAME - 4]}_{number}", number + 1
    return name
