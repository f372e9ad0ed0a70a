"""The project's own files, for the guards."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "mcp_tools", "registry", "workspace_runtime")


def modules(root: Path = ROOT) -> list[Path]:
    """Every Python file of the four packages."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def texts(root: Path = ROOT) -> list[Path]:
    """Every file that is, or is about to be, part of the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=30).stdout
    return sorted(path for name in listed.split("\0") if name and (path := root / name).is_file())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, root: Path = ROOT) -> str:
    """The file's name in messages and tables: relative, with slashes."""
    return path.relative_to(root).as_posix()


def dotted(node: ast.expr) -> str:
    """`a.b.c` for such an expression; empty parts stand for anything else (`.connect` for `f().connect`)."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def sample(root: Path, name: str, code: str) -> Path:
    """Write a file below `root`, for a guard to be shown."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path
