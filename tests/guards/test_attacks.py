"""Every listed attack is made by a test, and every test's mark names a listed attack."""

from __future__ import annotations

from pathlib import Path

from tests.support.attacks import ATTACKS, made

TESTS = Path(__file__).parents[1]


def test_every_attack_is_made_and_every_mark_is_listed() -> None:
    assert sorted(made(TESTS)) == sorted(ATTACKS)


def test_a_mark_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("@attack(1, 2)\ndef test_a() -> None: ...\n\n\n@attack(2)\nclass TestB: ...\n")
    assert made(tmp_path) == {1: ["test_a.py::test_a"], 2: ["test_a.py::test_a", "test_a.py::TestB"]}
