"""Says which endpoint of an API document a test covers, and finds out which endpoints have no test.

`@covers("GET /v1/mcp/servers")` marks a test. Which endpoints a document has is data beside its tests; `covered` reads
the marks from the source of a folder, so that a run of a few tests alone knows them as well.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest


def covers(*endpoints: str) -> pytest.MarkDecorator:
    """Mark a test with what it covers.

    Args:
        endpoints: method and path as the document writes them, like `GET /v1/mcp/servers/{server_id}`.
    """
    return pytest.mark.covers(*endpoints)


def covered(folder: Path) -> set[str]:
    """All endpoints that a test below `folder` is marked with."""
    found: set[str] = set()
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", None) == "covers":
                        found |= {str(arg.value) for arg in mark.args if isinstance(arg, ast.Constant)}
    return found
