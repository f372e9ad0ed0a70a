"""The project speaks of itself alone, and no file in it depends on one machine or one place to get packages from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guards.source import ROOT, place, sample, texts

# Put together from pieces, so that this file does not hold what it looks for.
_FOLDERS = ["/" + "work", "/" + "tmp/v"]
_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "yarn" + "pkg.com",
    "crates" + ".io",
    "proxy." + "golang.org",
]
FORBIDDEN = {
    "a folder of one machine": re.compile(rf"(?<![\w.~$}}/*-])(?:{'|'.join(_FOLDERS)})(?![\w.-])"),
    "a package registry": re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _HOSTS))})\b"),
}


def complaints(paths: list[Path], root: Path = ROOT) -> list[str]:
    said: list[str] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or an archive
        for number, line in enumerate(lines, 1):
            said += [
                f"{place(path, root)}:{number} names {what}: {found[0]}"
                for what, pattern in FORBIDDEN.items()
                if (found := pattern.search(line))
            ]
    return said


def test_texts_name_no_machine_and_no_registry() -> None:
    assert complaints(texts()) == []


@pytest.mark.parametrize(
    "line", [f"see {folder}/x/y.md" for folder in _FOLDERS] + [f'"https://{host}/simple"' for host in _HOSTS]
)
def test_the_guard_sees_each(tmp_path: Path, line: str) -> None:
    assert len(complaints([sample(tmp_path, "a.md", line)], tmp_path)) == 1
    assert len(complaints([sample(tmp_path, "b.md", "registry." + line)], tmp_path)) == 1


def test_the_guard_leaves_what_only_looks_alike(tmp_path: Path) -> None:
    text = "/workspaces /workspace/x http://h/work a/work/b ~/work /tmp/var"
    assert complaints([sample(tmp_path, "a.md", text)], tmp_path) == []
