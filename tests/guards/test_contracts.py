"""Every package stands in the import contracts (`.importlinter`), which `scripts/check` runs.

import-linter itself complains about a contract that names a package which is gone; here is the other direction.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from tests.guards.source import PACKAGES, ROOT, sample

# Which contract must name which modules: the children of a package, or one by name where it exists.
CHILDREN = {
    "gateway": "gateway",
    "registry": "registry",
    "gateway.api": "facades",
}
BY_NAME = {
    "workspace_runtime.inside": "inside",
    "workspace_runtime.runtime": "nohttp",
}
# The gateway contains no SQL: its packages are in one of these contracts, the roots are in `roots`.
WITHOUT_SQL = ("nosql", "datapath")


def contracts(root: Path = ROOT) -> dict[str, set[str]]:
    """For each contract, the modules that its layers or sources name, in full."""
    config = ConfigParser()
    config.read_string((root / ".importlinter").read_text(encoding="utf-8"))
    named: dict[str, set[str]] = {}
    for section in config.sections():
        options = config[section]
        containers = options.get("containers", "").split() or [""]
        words = re.split(r"[\s|:()]+", f"{options.get('layers', '')} {options.get('source_modules', '')}")
        named[section.rpartition(":")[2]] = {
            f"{container}.{word}".lstrip(".") for container in containers for word in words if word
        }
    return named


def children(package: str, root: Path, *, packages_only: bool = False) -> list[str]:
    """The modules and packages directly inside a package."""
    folder = root.joinpath(*package.split("."))
    names = {path.parent.name for path in folder.glob("*/__init__.py")}
    if not packages_only:
        names |= {path.stem for path in folder.glob("*.py") if path.name != "__init__.py"}
    return [f"{package}.{name}" for name in sorted(names)]


def complaints(root: Path = ROOT) -> list[str]:
    named = contracts(root)
    required = [(package, ("roots",)) for package in PACKAGES]
    required += [(child, (contract,)) for package, contract in CHILDREN.items() for child in children(package, root)]
    required += [(child, WITHOUT_SQL) for child in children("gateway", root, packages_only=True)]
    required += [
        (module, (contract,))
        for module, contract in BY_NAME.items()
        if module in children(module.partition(".")[0], root)
    ]
    return [
        f"{module} must stand in the contract {' or '.join(accepted)} of .importlinter"
        for module, accepted in required
        if not any(module in named.get(contract, ()) for contract in accepted)
    ]


def test_every_package_stands_in_the_contracts() -> None:
    assert complaints() == []


def test_the_guard_sees_a_package_without_a_contract(tmp_path: Path) -> None:
    sample(tmp_path, ".importlinter", (ROOT / ".importlinter").read_text())
    for name in ("registry/novel/__init__.py", "gateway/realm/__init__.py", "gateway/tool.py"):
        sample(tmp_path, name, "")
    for name in ("gateway/api/novel/__init__.py", "workspace_runtime/inside/__init__.py", "registry/core/__init__.py"):
        sample(tmp_path, name, "")
    said = {line.split(" of ")[0] for line in complaints(tmp_path)}
    assert {
        "registry.novel must stand in the contract registry",
        "gateway.realm must stand in the contract gateway",
        "gateway.realm must stand in the contract nosql or datapath",
        "gateway.tool must stand in the contract gateway",
        "gateway.api.novel must stand in the contract facades",
    } <= said
    assert not any(line.startswith("registry.core ") for line in said)


def test_the_guard_sees_that_a_contract_is_gone(tmp_path: Path) -> None:
    sample(tmp_path, ".importlinter", "[importlinter]\n")
    sample(tmp_path, "workspace_runtime/inside/__init__.py", "")
    said = complaints(tmp_path)
    assert "gateway must stand in the contract roots of .importlinter" in said
    assert "workspace_runtime.inside must stand in the contract inside of .importlinter" in said
