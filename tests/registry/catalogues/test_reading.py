"""Files of others become drafts; what cannot be registered as it is says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.catalogues.reading import Draft, FileNotUnderstood, read

STDIO = {"command": "npx", "args": ["-y", "a-server", "/tmp"], "env": {"TOKEN": "t"}}
HTTP = {"type": "http", "url": "https://a.test/mcp", "headers": {"X-Key": "k"}}
SSE = {"type": "sse", "url": "https://a.test/sse"}
DRAFTS = [
    Draft("one", command="npx", args=("-y", "a-server", "/tmp"), env={"TOKEN": "t"}),
    Draft("two", url="https://a.test/mcp", transport="streamable-http", headers={"X-Key": "k"}),
    Draft("three", url="https://a.test/sse", transport="sse"),
]
MEMBERS = {"one": STDIO, "two": HTTP, "three": SSE}
REMOTE = {
    "name": "com.acme/notes",
    "description": "Notes",
    "version": "1.2.0",
    "remotes": [{"type": "streamable-http", "url": "https://acme.test/mcp"}],
}


@pytest.mark.parametrize(
    "document",
    [{"mcpServers": MEMBERS}, {"servers": MEMBERS, "inputs": []}, {"editor.fontSize": 12, "mcp": {"servers": MEMBERS}}],
    ids=["mcpServers", "servers", "settings"],
)
def test_configurations_of_clients(document: dict[str, Any]) -> None:
    assert read(document) == DRAFTS


@pytest.mark.parametrize("document", [REMOTE, {"servers": [{"server": REMOTE, "_meta": {}}], "metadata": {"count": 1}}])
def test_a_server_json_and_a_list_of_them(document: dict[str, Any]) -> None:
    assert read(document) == [
        Draft("com.acme/notes", "Notes", url="https://acme.test/mcp", transport="streamable-http")
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("npm", ("npx", "-y", "notes@1.0.0", "--root", "/tmp")),
        ("pypi", ("uvx", "notes@1.0.0", "--root", "/tmp")),
        ("oci", ("docker", "run", "-i", "--rm", "notes", "--root", "/tmp")),
    ],
)
def test_a_package_becomes_the_command_that_starts_it(kind: str, words: tuple[str, ...]) -> None:
    package = {
        "registryType": kind,
        "identifier": "notes",
        "version": "1.0.0",
        "packageArguments": [{"type": "named", "name": "--root", "value": "/tmp"}],
        "environmentVariables": [{"name": "LEVEL", "default": "info"}],
    }
    (draft,) = read({"name": "com.acme/notes", "packages": [package]})
    assert ((draft.command, *draft.args), draft.env) == (words, {"LEVEL": "info"})


def test_what_a_client_would_have_asked_for_is_not_guessed() -> None:
    secret = {"name": "TOKEN", "isRequired": True, "isSecret": True}
    package = {"registryType": "npm", "identifier": "notes", "environmentVariables": [secret]}
    (draft,) = read({"name": "com.acme/notes", "packages": [package]})
    assert draft.problem == "It needs a value for the variable TOKEN: register it by hand."
    (draft,) = read({"mcpServers": {"one": {"url": "https://a.test", "headers": {"A": "Bearer ${input:key}"}}}})
    assert draft.problem == "It holds the placeholder ${input:key}: put the value in its place."
    assert (draft.url, draft.headers) == (None, {})


@pytest.mark.parametrize("document", [{}, {"name": "a"}, {"servers": "a"}, {"mcpServers": []}])
def test_other_files_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(FileNotUnderstood):
        read(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["servers", "mcpServers", "mcp", "name", "packages", "remotes", "url", "command", "args", "env"]
)


@given(st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=3), max_size=4))
def test_nothing_in_a_file_is_a_surprise(document: dict[str, Any]) -> None:
    try:
        drafts = read(document)
    except FileNotUnderstood:
        return
    assert all(draft.problem or draft.url or draft.command is not None for draft in drafts)
