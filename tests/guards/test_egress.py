"""Every connection to another host is made by `registry.core.egress`, which vets the address it goes to."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards.source import ROOT, dotted, modules, place, sample, tree

EGRESS = "registry/core/egress"

# Modules whose import is enough, since they have no other use.
CLIENTS = ("http.client", "httpx", "httpx2", "requests", "urllib.request", "urllib3", "ftplib", "telnetlib")
# What opens a connection, by its full name after imports are resolved, or by the method's name on anything.
OPENERS = (
    "aiohttp.ClientSession",
    "aiohttp.TCPConnector",
    "aiohttp.request",
    "asyncio.open_connection",
    "socket.create_connection",
    "websockets.connect",
)
METHODS = ("create_connection", "sock_connect")

# Files that may do one of these by themselves, with the reason. A row that is no longer needed must go.
ALLOWED: dict[str, dict[str, str]] = {
    "workspace_runtime/engine_line.py": {"create_connection": "the engine, where the operator's setting says"},
}


def openings(path: Path) -> dict[str, int]:
    """What the file opens connections with, each with the line where it first does."""
    module = tree(path)
    names: dict[str, str] = {}
    found: dict[str, int] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        for name in imported:
            for client in CLIENTS:
                if name == client or name.startswith(f"{client}."):
                    found.setdefault(client, node.lineno)
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = dotted(node).partition(".")
            name = f"{names.get(first, first)}{dot}{rest}"
            if name in OPENERS:
                found.setdefault(name, node.lineno)
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                found.setdefault(node.attr, node.lineno)
    return found


def complaints(root: Path = ROOT, allowed: dict[str, dict[str, str]] = ALLOWED) -> list[str]:
    said: list[str] = []
    needed: set[tuple[str, str]] = set()
    for path in modules(root):
        name = place(path, root)
        if name == f"{EGRESS}.py" or name.startswith(f"{EGRESS}/"):
            continue
        for opener, line in openings(path).items():
            if opener in allowed.get(name, {}):
                needed.add((name, opener))
            else:
                said.append(f"{name}:{line} uses {opener}: connect through registry.core.egress")
    rows = {(name, opener) for name, openers in allowed.items() for opener in openers}
    return said + [f"{name} no longer uses {opener}: delete its row" for name, opener in sorted(rows - needed)]


def test_only_egress_connects() -> None:
    assert complaints() == []


def test_the_guard_sees_each_way_to_connect(tmp_path: Path) -> None:
    bad = {
        "import urllib.request": "urllib.request",
        "from urllib import request": "urllib.request",
        "import httpx": "httpx",
        "from http.client import HTTPConnection": "http.client",
        "import aiohttp\naiohttp.ClientSession()": "aiohttp.ClientSession",
        "from aiohttp import ClientSession as S\nS()": "aiohttp.ClientSession",
        "import asyncio as a\nasync def f():\n    await a.open_connection('h', 1)": "asyncio.open_connection",
        "async def f(loop):\n    await loop.create_connection(F, 'h', 1)": "create_connection",
        "async def f(g):\n    await g().create_connection(F, 'h', 1)": "create_connection",
        "import socket\nsocket.create_connection(('h', 1))": "socket.create_connection",
    }
    for code, opener in bad.items():
        path = sample(tmp_path, "gateway/sample.py", code)
        assert list(openings(path)) == [opener], code
        assert len(complaints(tmp_path, {})) == 1
        assert complaints(tmp_path, {"gateway/sample.py": {opener: "reason"}}) == []


def test_the_guard_leaves_egress_and_what_only_looks_alike(tmp_path: Path) -> None:
    sample(tmp_path, "registry/core/egress/client.py", "import aiohttp\naiohttp.ClientSession()")
    sample(tmp_path, "registry/a.py", "import aiohttp\nimport urllib.parse\nfrom aiohttp import ClientError")
    sample(tmp_path, "registry/b.py", "from starlette import requests\nimport asyncio\nasyncio.open_unix_connection")
    assert complaints(tmp_path, {}) == []
    assert complaints(tmp_path, {"registry/a.py": {"httpx": "reason"}}) == [
        "registry/a.py no longer uses httpx: delete its row"
    ]
