"""Reads the files in which others name MCP servers, and makes of each entry a draft that can be registered here.

Known are: a list of an MCP registry, a `server.json`, and the configuration files of clients: `mcpServers` (Claude
Code's `.mcp.json`, Claude Desktop, Cursor), `servers` (VS Code's `mcp.json`) and `mcp.servers` (VS Code's settings).
Pure: nothing is contacted, and nothing in a file is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

from registry.core.errors import Invalid
from registry.servers.connection import Transport

MOST = 500
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}|\{[A-Za-z_][A-Za-z0-9_]*\}")
_TRANSPORTS: dict[str, Transport] = {
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "sse": "sse",
}
_RUNNERS = {
    "npm": ("npx", "-y", "{id}@{version}"),
    "pypi": ("uvx", "{id}@{version}"),
    "oci": ("docker", "run", "-i", "--rm", "{id}"),
    "nuget": ("dnx", "{id}@{version}", "--yes"),
}

Json = dict[str, Any]


class FileNotUnderstood(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "This names no MCP servers in a form that is known: a list of an MCP registry, a server.json, or a "
            "configuration with mcpServers or servers.",
            field="document",
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """One server of a file.

    Args:
        problem: why it cannot be registered as it is; `None` if it can.
    """

    name: str
    description: str | None = None
    url: str | None = None
    transport: Transport | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    problem: str | None = None


def read(document: Json) -> list[Draft]:
    """The servers that a file names. Raises `FileNotUnderstood`."""
    found: list[Draft] | None = None
    listed: Any = document.get("servers")
    if isinstance(listed, list):
        entries = cast("list[Any]", listed)
        found = [_server_json(_object(_object(entry).get("server", entry))) for entry in entries[:MOST]]
    elif isinstance(document.get("name"), str) and ("packages" in document or "remotes" in document):
        found = [_server_json(document)]
    else:
        for named in (document.get("mcpServers"), listed, _object(document.get("mcp")).get("servers")):
            if isinstance(named, dict):
                members = cast("dict[str, Any]", named)
                found = [_client_entry(name, _object(entry)) for name, entry in list(members.items())[:MOST]]
                break
    if found is None:
        raise FileNotUnderstood
    return [_without_placeholders(draft) for draft in found]


def _client_entry(name: str, entry: Json) -> Draft:
    url, command = entry.get("url") or entry.get("serverUrl"), entry.get("command")
    if isinstance(url, str):
        kind = entry.get("type")
        transport = _TRANSPORTS.get(kind) if isinstance(kind, str) else None
        return Draft(name, url=url, transport=transport, headers=_texts(entry.get("headers")))
    if isinstance(command, str):
        return Draft(name, command=command, args=_list(entry.get("args")), env=_texts(entry.get("env")))
    return Draft(name, problem="It has neither a url nor a command.")


def _server_json(server: Json) -> Draft:
    name = str(server.get("title") or server.get("name") or "")
    described = server.get("description")
    description = described if isinstance(described, str) else None
    if not name:
        return Draft("", problem="It has no name.")
    for remote in map(_object, _items(server.get("remotes"))):
        transport = _TRANSPORTS.get(str(remote.get("type")))
        if transport is not None and isinstance(remote.get("url"), str):
            headers, missing = _inputs(remote.get("headers"))
            problem = f"It needs a value for the header {missing}: register it by hand." if missing else None
            return Draft(name, description, url=remote["url"], transport=transport, headers=headers, problem=problem)
    for package in map(_object, _items(server.get("packages"))):
        runner = _RUNNERS.get(str(package.get("registryType")))
        if runner is not None and isinstance(package.get("identifier"), str):
            return _package(name, description, package, runner)
    return Draft(name, description, problem="It has neither a remote nor a package of a kind that is known.")


def _package(name: str, description: str | None, package: Json, runner: tuple[str, ...]) -> Draft:
    version = str(package.get("version") or "latest")
    words = [word.replace("{id}", package["identifier"]).replace("{version}", version) for word in runner]
    for argument in map(_object, _items(package.get("packageArguments"))):
        value = argument.get("value", argument.get("default"))
        words += [str(argument["name"])] if argument.get("type") == "named" and argument.get("name") else []
        words += [str(value)] if value is not None else []
    env, missing = _inputs(package.get("environmentVariables"))
    problem = f"It needs a value for the variable {missing}: register it by hand." if missing else None
    return Draft(name, description, command=words[0], args=tuple(words[1:]), env=env, problem=problem)


def _inputs(given: Any) -> tuple[dict[str, str], str | None]:
    """Values of named inputs, and the first that is required and has none."""
    values: dict[str, str] = {}
    missing: str | None = None
    for one in map(_object, _items(given)):
        name, value = str(one.get("name")), one.get("value", one.get("default"))
        if value is not None:
            values[name] = str(value)
        elif one.get("isRequired") and missing is None:
            missing = name
    return values, missing


def _without_placeholders(draft: Draft) -> Draft:
    """A value that a client would have asked for is not guessed."""
    texts = [draft.url or "", *draft.args, *draft.env.values(), *draft.headers.values()]
    found = next((match[0] for text in texts if (match := _PLACEHOLDER.search(text))), None)
    if draft.problem is not None or found is None:
        return draft
    return Draft(
        draft.name, draft.description, problem=f"It holds the placeholder {found}: put the value in its place."
    )


def _object(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _list(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in _items(value))


def _texts(value: Any) -> dict[str, str]:
    return {name: str(text) for name, text in _object(value).items()}
