"""A transaction is committed at the edge of a request or job, by `registry.core`, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards.source import ROOT, modules, place, sample, tree


def complaints(root: Path = ROOT) -> list[str]:
    said: list[str] = []
    for path in modules(root):
        name = place(path, root)
        if name.startswith("registry/core/"):
            continue
        said += [
            f"{name}:{node.lineno} calls commit(): let registry.core's transaction do that"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
        ]
    return said


def test_nothing_commits_by_itself() -> None:
    assert complaints() == []


def test_the_guard_sees_a_commit(tmp_path: Path) -> None:
    code = "async def save(session):\n    await session.commit()\n"
    sample(tmp_path, "registry/core/db.py", code)
    sample(tmp_path, "registry/usage/service.py", code)
    assert complaints(tmp_path) == [
        "registry/usage/service.py:2 calls commit(): let registry.core's transaction do that"
    ]
