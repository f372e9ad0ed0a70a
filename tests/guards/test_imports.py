"""Imports stand at the head of a module, so that a knot shows; and what only names a package holds no code."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards.source import ROOT, modules, place, sample, tree

# Vendors that are heavy or an extra, and may be imported by their adapter at first use. It keeps the start fast.
LATE: dict[str, str] = {
    "aiohttp": "0.4 s; calls go through the data path's own pool, which needs it not",
    "argon2": "only where a password is checked",
    "idna": "only for hosts with letters beyond ASCII",
    "jwt": "only where an access token is issued or checked",
    "limits": "only at the first limited request",
    "aiosmtplib": "only where mail is configured",
    "alembic": "only at a migration",
    "apprise": "a hundred services, slow to import",
    "docker": "only where workspaces are used",
    "fpdf": "extra `reports`",
    "genai_prices": "extra `agents`",
    "gidgethub": "only where GitHub is configured",
    "kubernetes_asyncio": "extra `kubernetes`",
    "openai": "extra `agents`",
    "opentelemetry": "extra `telemetry`",
    "pydantic_ai": "extra `agents`",
    "pyotp": "only where somebody uses a second factor",
    "redis": "only where several processes share state",
    "rich": "only where a person reads the command line; the server never does",
    "xlsxwriter": "extra `reports`",
    "yaml": "only where the description of a REST service is imported",
}

# Modules of our own that are imported late: what stands on the heavy vendors, for callers that may not need it.
OWN_LATE: dict[str, dict[str, str]] = {
    "gateway/cli/serve.py": {
        "gateway.server": "the whole gateway, which no client command needs",
        "registry.core.settings": "pydantic, which no client command needs",
    },
    "registry/core/egress/client.py": {"registry.core.egress.session": "stands on aiohttp"},
}

# Package files that say what their package gives to others; they hold nothing but such imports.
FACES = ("registry/core/egress/__init__.py",)

# Below these an __init__.py is free of code: importing one module must not import its neighbours.
BARE = ("gateway/mcp/", "gateway/auth/", "registry/")


def late_imports(path: Path, root: Path = ROOT) -> list[str]:
    said: dict[tuple[int, str], None] = {}
    for function in ast.walk(tree(path)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = ["." * node.level + (node.module or "")]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "importlib.import_module"}:
                imported = [ast.unparse(node.args[0]).strip("'\"")] if node.args else []
            for name in imported:
                if name.partition(".")[0] not in LATE and name not in OWN_LATE.get(place(path, root), {}):
                    said[getattr(node, "lineno", 0), name] = None
    return [
        f"{place(path, root)}:{line} imports {name} inside a function: move it to the head, or list the vendor in LATE"
        for line, name in said
    ]


def crowded_inits(root: Path = ROOT) -> list[str]:
    said: list[str] = []
    for path in modules(root):
        name = place(path, root)
        if path.name != "__init__.py" or not name.startswith(BARE) or name in FACES:
            continue
        body = tree(path).body
        documented = bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        if len(body) > documented:
            said.append(f"{name} holds code: move it to a module")
    return said


def test_imports_stand_at_the_head() -> None:
    assert [line for path in modules() for line in late_imports(path)] == []


def test_package_files_are_free_of_code() -> None:
    assert crowded_inits() == []


def test_faces_only_import() -> None:
    for face in FACES:
        kinds = {type(node) for node in tree(ROOT / face).body}
        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, face


def test_the_guard_sees_a_late_import(tmp_path: Path) -> None:
    code = (
        "def f():\n"
        "    from registry.usage import service\n"
        "    import docker.errors\n"
        "    def g():\n"
        "        import json, os\n"
        "    return __import__('gateway')\n"
    )
    said = late_imports(sample(tmp_path, "gateway/a.py", code), tmp_path)
    assert sorted(line.split(" inside")[0] for line in said) == [
        "gateway/a.py:2 imports registry.usage",
        "gateway/a.py:5 imports json",
        "gateway/a.py:5 imports os",
        "gateway/a.py:6 imports gateway",
    ]


def test_the_guard_lets_imports_for_types_stand_under_a_condition(tmp_path: Path) -> None:
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json\n"
    assert late_imports(sample(tmp_path, "gateway/a.py", code), tmp_path) == []


def test_the_guard_sees_code_in_a_package_file(tmp_path: Path) -> None:
    sample(tmp_path, "registry/usage/__init__.py", '"""Words."""\n')
    sample(tmp_path, "registry/audit/__init__.py", '"""Words."""\nfrom registry.audit.service import x\n')
    sample(tmp_path, "gateway/mcp/upstream/__init__.py", "x = 1\n")
    sample(tmp_path, "gateway/api/__init__.py", "x = 1\n")
    assert crowded_inits(tmp_path) == [
        "gateway/mcp/upstream/__init__.py holds code: move it to a module",
        "registry/audit/__init__.py holds code: move it to a module",
    ]
