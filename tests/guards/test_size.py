"""Files and functions stay small enough to be read at one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards.source import ROOT, modules, place, sample, tree

FILE_LINES = 600
FUNCTION_LINES = 60

# What is larger, with its present size and the reason. A size here is only ever lowered: the guard also complains
# when the thing has become smaller than its row. Functions are `path::Class.function`.
EXCEPTIONS: dict[str, tuple[int, str]] = {}


def sizes(path: Path, root: Path = ROOT) -> dict[str, int]:
    """The lines of a file and of each function in it, docstrings included."""
    name = place(path, root)
    found = {name: len(path.read_text(encoding="utf-8").splitlines())}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{prefix}{child.name}."
                if not isinstance(child, ast.ClassDef):
                    found[f"{name}::{inner[:-1]}"] = (child.end_lineno or child.lineno) - child.lineno + 1
            visit(child, inner)

    visit(tree(path), "")
    return found


def complaints(root: Path = ROOT, exceptions: dict[str, tuple[int, str]] = EXCEPTIONS) -> list[str]:
    found = {name: lines for path in modules(root) for name, lines in sizes(path, root).items()}
    said = [f"{name} is in the table, but is gone: delete its row" for name in exceptions if name not in found]
    for name, lines in found.items():
        limit = FUNCTION_LINES if "::" in name else FILE_LINES
        allowed, _reason = exceptions.get(name, (limit, ""))
        if lines > allowed:
            said.append(f"{name} has {lines} lines, {allowed} are allowed: divide it")
        elif name in exceptions and lines < allowed:
            said.append(f"{name} has {lines} lines, its row allows {allowed}: lower or delete the row")
    return said


def test_files_and_functions_are_small() -> None:
    assert complaints() == []


def test_the_guard_sees_what_is_too_long(tmp_path: Path) -> None:
    body = "class A:\n    async def f(self):\n" + "        x = 1\n" * FUNCTION_LINES
    sample(tmp_path, "gateway/function.py", body)
    sample(tmp_path, "registry/deep/file.py", "x = 1\n" * (FILE_LINES + 1))
    assert complaints(tmp_path, {}) == [
        "gateway/function.py::A.f has 61 lines, 60 are allowed: divide it",
        "registry/deep/file.py has 601 lines, 600 are allowed: divide it",
    ]


def test_a_row_is_only_ever_lowered(tmp_path: Path) -> None:
    sample(tmp_path, "gateway/a.py", "x = 1\n" * 650)
    assert complaints(tmp_path, {"gateway/a.py": (650, "")}) == []
    for row in (649, 651):
        assert len(complaints(tmp_path, {"gateway/a.py": (row, "")})) == 1
    assert len(complaints(tmp_path, {"gateway/a.py": (650, ""), "gateway/gone.py": (700, "")})) == 1
