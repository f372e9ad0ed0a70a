"""The attacks on identity and tenancy, by number, and the mark of a test that makes one.

`ATTACKS` is data: `tests/guards/test_attacks.py` fails for an attack that no test makes, and for a mark with a number
that is none of these. Attacks on the HTTP edge are in `tests/gateway/mcp/test_attacks.py`, those by way of what
servers say in `tests/e2e/test_attacks.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ATTACKS = {
    12: "another site's page uses the browser's cookie, or reads answers",
    13: "ids and fields of another organisation, by every operation and list",
    14: "an ordinary member at an administrator's operations; commands and tests of servers by who may not",
    15: "no credential or a broken one at every door; a gateway that starts with a weak secret",
    16: "a caller's own credential, or another organisation's, reaches a server",
    17: "tokens with another algorithm, key, kind, audience or time",
    18: "keys read from the database or the logs, or guessed by the time that a refusal takes",
    19: "a session fixed beforehand, and another's session, cursor, task or stream",
    20: "answers of an identity provider replayed, swapped or made up",
    21: "a refresh token used twice",
}


def attack(*numbers: int) -> pytest.MarkDecorator:
    """Mark a test with the attacks that it makes."""
    return pytest.mark.attack(*numbers)


def made(folder: Path) -> dict[int, list[str]]:
    """The tests below `folder` by the attack that they are marked with, read from their source."""
    found: dict[int, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", None) == "attack":
                    for arg in mark.args:
                        number = ast.literal_eval(arg)
                        found.setdefault(number, []).append(f"{path.relative_to(folder)}::{node.name}")
    return found
