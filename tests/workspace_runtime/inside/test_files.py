"""Files are read, written, edited, listed, moved and deleted as the tools say."""

from __future__ import annotations

import base64
import os

from tests.workspace_runtime.inside.conftest import Tools
from workspace_runtime.inside import files


async def test_a_file_is_written_and_read(tools: Tools) -> None:
    assert await tools("write_file", path="a/b.txt", content="one\ntwo\n") == {
        "path": "a/b.txt",
        "bytes": 8,
        "created": True,
    }
    read = await tools("read_file", path="a/b.txt")
    assert (read["content"], read["total_lines"], read["truncated"]) == ("one\ntwo\n", 2, False)
    assert (await tools("write_file", path="a/b.txt", content="x"))["created"] is False
    assert "already" in await tools.refused("write_file", path="a/b.txt", content="y", overwrite=False)
    assert (tools.path / "a/b.txt").read_text() == "x"
    assert os.listdir(tools.path / "a") == ["b.txt"]


async def test_a_range_of_lines_is_read(tools: Tools) -> None:
    (tools.path / "f").write_text("".join(f"{number}\n" for number in range(1, 101)))
    read = await tools("read_file", path="f", offset=10, limit=3)
    assert (read["content"], read["first_line"], read["lines"], read["total_lines"]) == ("10\n11\n12\n", 10, 3, 100)
    assert read["truncated"] is True
    assert (await tools("read_file", path="f", offset=98))["truncated"] is False


async def test_what_is_too_much_for_one_call_is_cut_and_said_so(tools: Tools) -> None:
    (tools.path / "long").write_text("ä" * files.READ_BYTES)
    read = await tools("read_file", path="long")
    assert read["truncated"] is True
    assert read["content"] == "ä" * (files.READ_BYTES // 2)
    assert "larger" in await tools.refused("write_file", path="x", content="a" * (files.WRITE_BYTES + 1))


async def test_bytes_that_are_no_text_come_back_unharmed(tools: Tools) -> None:
    data = bytes(range(256)) * 4
    await tools("write_file", path="b", content=base64.b64encode(data).decode(), encoding="base64")
    assert (tools.path / "b").read_bytes() == data
    read = await tools("read_file", path="b")
    assert (read["encoding"], base64.b64decode(read["content"])) == ("base64", data)
    part = await tools("read_file", path="b", byte_offset=250, limit=10)
    assert base64.b64decode(part["content"]) == data[250:260]
    assert "base64" in await tools.refused("write_file", path="b", content="%%%", encoding="base64")
    (tools.path / "latin").write_bytes("grün".encode("latin-1"))
    assert (await tools("read_file", path="latin"))["encoding"] == "base64"
    assert "UTF-8" in await tools.refused("edit_file", path="latin", old_text="g", new_text="h")


async def test_an_edit_must_match_once_and_exactly(tools: Tools) -> None:
    (tools.path / "f").write_text("a = 1\nb = 1\n")
    assert "2 times" in await tools.refused("edit_file", path="f", old_text="= 1", new_text="= 2")
    assert "exactly" in await tools.refused("edit_file", path="f", old_text="a=1", new_text="")
    assert "empty" in await tools.refused("edit_file", path="f", old_text="", new_text="x")
    assert (await tools("edit_file", path="f", old_text="a = 1", new_text="a = 2"))["replacements"] == 1
    done = await tools("edit_file", path="f", old_text=" = ", new_text=": ", replace_all=True)
    assert (done["replacements"], (tools.path / "f").read_text()) == (2, "a: 2\nb: 1\n")


async def test_several_edits_are_all_made_or_none(tools: Tools) -> None:
    (tools.path / "f").write_text("one two three")
    os.chmod(tools.path / "f", 0o755)
    good = [{"old_text": "one", "new_text": "two"}, {"old_text": "two two", "new_text": "2"}]
    said = await tools.refused("multi_edit", path="f", edits=[*good, {"old_text": "four", "new_text": ""}])
    assert "edit 3" in said
    assert (tools.path / "f").read_text() == "one two three"
    assert (await tools("multi_edit", path="f", edits=good))["replacements"] == 2
    assert (tools.path / "f").read_text() == "2 three"
    assert (tools.path / "f").stat().st_mode & 0o777 == 0o755


async def test_a_directory_is_listed(tools: Tools) -> None:
    (tools.path / "d").mkdir()
    (tools.path / ".hidden").write_text("x")
    os.symlink("/etc/passwd", tools.path / "link")
    listed = await tools("list_directory")
    assert [(entry["name"], entry["type"]) for entry in listed["entries"]] == [
        (".hidden", "file"),
        ("d", "directory"),
        ("link", "link"),
    ]
    assert "workspace" in await tools.refused("list_directory", path="..")


async def test_files_are_moved_and_deleted(tools: Tools) -> None:
    await tools("write_file", path="a", content="a")
    await tools("write_file", path="b", content="b")
    assert "already" in await tools.refused("move_file", source="a", destination="b")
    await tools("move_file", source="a", destination="d/e/a")
    await tools("move_file", source="b", destination="d/e/a", overwrite=True)
    assert (tools.path / "d/e/a").read_text() == "b"
    assert "recursive" in await tools.refused("delete_file", path="d")
    assert (await tools("delete_file", path="d", recursive=True))["deleted"] is True
    assert (await tools("delete_file", path="d"))["deleted"] is False
    assert "itself" in await tools.refused("delete_file", path=".", recursive=True)


async def test_a_link_is_neither_written_through_nor_emptied(tools: Tools) -> None:
    outside = tools.path.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    os.symlink(outside, tools.path / "link")
    os.symlink(outside / "kept", tools.path / "file")
    assert "link" in await tools.refused("write_file", path="file", content="x")
    for name in ("link/new", "link/kept"):
        await tools.refused("write_file", path=name, content="x")
        await tools.refused("delete_file", path=name)
    await tools("delete_file", path="link", recursive=True)
    assert [path.read_text() for path in outside.iterdir()] == ["kept"]


async def test_arguments_are_checked(tools: Tools) -> None:
    assert "path must be given" in await tools.refused("read_file")
    assert "type integer" in await tools.refused("read_file", path="a", offset="1")
    assert "type integer" in await tools.refused("read_file", path="a", offset=True)
    assert "no parameter" in await tools.refused("read_file", path="a", of=1)
    assert "one of" in await tools.refused("read_file", path="a", encoding="latin-1")
    assert "edits[0].new_text" in await tools.refused("multi_edit", path="a", edits=[{"old_text": "a"}])
