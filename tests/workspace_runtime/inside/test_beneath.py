"""No path, link or race leads out of the folder, by the kernel's own call and by the walk that stands in for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure

SECRET = b"outside"
ROUNDS = 5_000
"""So often a read must have gone well, and so often it must have been refused, while folder and link change places."""
_SWAP = """
import ctypes, os, sys
one, other = map(os.fsencode, sys.argv[1:])
exchange = 2
while ctypes.CDLL(None).renameat2(-100, one, -100, other, exchange) == 0:
    pass
"""


@pytest.fixture(params=[True, False], ids=["openat2", "walk"])
def beneath(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Beneath]:
    root = tmp_path / "work"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "work-evil").mkdir()
    (tmp_path / "work-evil" / "secret").write_bytes(SECRET)
    made = Beneath(str(root), by_kernel=request.param)
    yield made
    made.close()


def read(beneath: Beneath, path: str) -> bytes:
    with beneath.file(path) as descriptor:
        return os.read(descriptor, 100)


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "folder/../../secret",
        "/etc/passwd",
        "../work-evil/secret",
        "file\0",
        "x" * 5000,
    ],
)
def test_a_path_that_leads_out_is_refused(beneath: Beneath, path: str) -> None:
    with pytest.raises(ToolFailure):
        read(beneath, path)


def test_a_sibling_whose_name_begins_alike_is_outside(beneath: Beneath) -> None:
    with pytest.raises(ToolFailure, match="outside"):
        read(beneath, f"{beneath.path}-evil/secret")


def test_an_encoded_path_is_taken_as_it_is(beneath: Beneath) -> None:
    with pytest.raises(FileNotFoundError):
        read(beneath, "%2e%2e/secret")


def test_a_path_beneath_is_read_in_either_form(beneath: Beneath) -> None:
    assert read(beneath, "folder/file") == b"inside"
    assert read(beneath, f"{beneath.path}/folder/../folder/file") == b"inside"


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "../../secret", "folder/../../secret"])
def test_a_link_that_leads_out_is_refused(beneath: Beneath, target: str) -> None:
    os.symlink(target, f"{beneath.path}/link")
    with pytest.raises((ToolFailure, FileNotFoundError)):
        read(beneath, "link")
    os.symlink("..", f"{beneath.path}/up")
    with pytest.raises(ToolFailure):
        read(beneath, "up/secret")


def test_links_in_circles_end(beneath: Beneath) -> None:
    os.symlink("b", f"{beneath.path}/a")
    os.symlink("a", f"{beneath.path}/b")
    with pytest.raises(ToolFailure):
        read(beneath, "a")


def test_a_link_that_stays_inside_is_followed(beneath: Beneath) -> None:
    os.symlink("folder", f"{beneath.path}/link")
    os.symlink("../link/file", f"{beneath.path}/folder/second")
    assert read(beneath, "link/file") == b"inside"
    assert read(beneath, "folder/second") == b"inside"


def test_a_named_pipe_and_a_folder_are_no_files(beneath: Beneath) -> None:
    os.mkfifo(f"{beneath.path}/pipe")
    for path in ("pipe", "folder"):
        with pytest.raises(ToolFailure):
            read(beneath, path)


def test_links_that_change_under_way_let_no_outside_byte_through(beneath: Beneath, tmp_path: Path) -> None:
    """A folder changes places with a link to the outside, again and again, while files are read and written."""
    inner, link, outer = f"{beneath.path}/swap", f"{beneath.path}/link", str(tmp_path / "work-evil")
    os.mkdir(inner)
    Path(f"{inner}/secret").write_bytes(b"inside")
    os.symlink(outer, link)
    good = refused = 0
    # Another process: threads of one take turns, and meet far less often.
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", _SWAP, inner, link]) as swapping:
        try:
            while good < ROUNDS or refused < ROUNDS:
                assert swapping.poll() is None
                try:
                    assert read(beneath, "swap/secret") == b"inside"
                    with beneath.parent("swap/made") as (folder, name):
                        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder))
                    good += 1
                except (ToolFailure, OSError):
                    refused += 1
        finally:
            swapping.kill()
    assert os.listdir(outer) == ["secret"]


def test_folders_are_made_beneath_only(beneath: Beneath, tmp_path: Path) -> None:
    beneath.make_folders("a/b/c")
    assert os.path.isdir(f"{beneath.path}/a/b/c")
    os.symlink(str(tmp_path), f"{beneath.path}/out")
    with pytest.raises(ToolFailure):
        beneath.make_folders("out/made")
    assert not (tmp_path / "made").exists()
