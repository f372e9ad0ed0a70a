"""Files are found by name and lines by content, by ripgrep and by hand alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.components.machine import have, on_path
from tests.support.components.missing import skip_if_missing
from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.search import Search
from workspace_runtime.inside.tool import Call


@pytest.fixture(params=["ripgrep", "by hand"])
def search(request: pytest.FixtureRequest, root: Beneath) -> Search:
    if request.param == "by hand":
        return Search(root)
    with skip_if_missing():
        return Search(root, str(have("ripgrep", on_path("rg"), "ripgrep")))


@pytest.fixture(autouse=True)
def files(root: Beneath) -> Path:
    path = Path(root.path)
    for name, content in {
        "a.py": "import os\nx = 'Needle'\n",
        "src/b.py": "needle\nneedle (1)\n",
        "src/deep/c.txt": "needle\n",
        ".git/config": "needle\n",
        "data.bin": "needle\0needle",
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    (path.parent / "outside").write_text("needle\n")
    os.symlink("../outside", path / "link")
    os.symlink("..", path / "up")
    return path


def found(search: Search, **arguments: Any) -> list[tuple[str, int]]:
    structured = search.search(Call(arguments)).structured
    return [(match["path"], match["line"]) for match in structured["matches"]]


def test_lines_are_found_and_nothing_outside(search: Search) -> None:
    assert found(search, pattern="needle") == [("src/b.py", 1), ("src/b.py", 2), ("src/deep/c.txt", 1)]
    assert found(search, pattern="needle", ignore_case=True)[0] == ("a.py", 2)
    assert found(search, pattern="needle", glob="*.txt") == [("src/deep/c.txt", 1)]
    assert found(search, pattern="needle", path="src/deep") == [("src/deep/c.txt", 1)]
    assert found(search, pattern="needle", path="src/b.py") == [("src/b.py", 1), ("src/b.py", 2)]
    assert found(search, pattern="needle (1)", literal=True) == [("src/b.py", 2)]
    assert found(search, pattern="nothing at all") == []


def test_a_match_says_where(search: Search) -> None:
    match = search.search(Call({"pattern": "'Needle"})).structured["matches"][0]
    assert match == {"path": "a.py", "line": 2, "column": 5, "text": "x = 'Needle'"}


def test_too_many_matches_are_cut_and_said_so(search: Search) -> None:
    structured = search.search(Call({"pattern": "needle", "max_matches": 2})).structured
    assert (len(structured["matches"]), structured["truncated"]) == (2, True)


@pytest.mark.parametrize("pattern", ["(", "--pre=touch marker"])
def test_a_pattern_is_never_an_option(search: Search, files: Path, pattern: str) -> None:
    try:
        assert found(search, pattern=pattern) == []
    except ToolFailure as failure:
        assert pattern == "("
        assert str(failure)  # noqa: PT017 - either is an answer
    assert not list(files.rglob("marker*"))


def test_a_folder_outside_is_refused(search: Search) -> None:
    for path in ("..", "up", "link"):
        with pytest.raises(ToolFailure):
            found(search, pattern="needle", path=path)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "src/b.py"]),
        ("src/**", ["src/b.py", "src/deep/c.txt"]),
        ("src/?.py", ["src/b.py"]),
        ("[ab].py", ["a.py"]),
        ("*.rs", []),
    ],
)
def test_names_are_found(root: Beneath, pattern: str, paths: list[str]) -> None:
    assert Search(root).glob(Call({"pattern": pattern})).structured["paths"] == paths
