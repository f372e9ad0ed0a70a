"""The tools for files, as they are offered: names, schemas, hints. What they do is `files`."""

from __future__ import annotations

from workspace_runtime.inside import tool
from workspace_runtime.inside.files import ENTRIES, READ_BYTES, WRITE_BYTES, Files
from workspace_runtime.inside.tool import Tool, flag, gives, text, whole

_PATH = text("In the workspace: relative to its root, or absolute beneath it.")
_ENCODING = text("`utf-8` or `base64`.", enum=["utf-8", "base64"])
_EDIT = {
    "old_text": text("What is there now, exactly; once in the file unless `replace_all`."),
    "new_text": text("What is to be there instead."),
    "replace_all": flag("Replace every occurrence."),
}


def file_tools(files: Files) -> list[Tool]:
    return [*_reading(files), *_writing(files), *_moving(files)]


def _reading(files: Files) -> list[Tool]:
    entry = gives(
        {
            "name": text("In its folder."),
            "type": text("What it is.", enum=["file", "directory", "link", "other"]),
            "size": whole("In bytes."),
            "modified": whole("Seconds since 1970."),
        }
    )
    return [
        Tool(
            "read_file",
            "Read a file",
            f"Read a text file, or a range of its lines. Up to {READ_BYTES} bytes a call. What is not UTF-8 is "
            "given as base64, by ranges of bytes.",
            files.read,
            {
                "path": _PATH,
                "offset": whole("First line, counted from 1.", minimum=1),
                "limit": whole("How many lines (bytes with `byte_offset` or base64).", minimum=1),
                "byte_offset": whole("First byte, counted from 0; gives base64.", minimum=0),
                "encoding": _ENCODING,
            },
            gives(
                {
                    "path": text("From the root on."),
                    "content": text("What was read."),
                    "encoding": _ENCODING,
                    "size": whole("Of the whole file, in bytes."),
                    "truncated": flag("There is more behind what was read."),
                    "first_line": whole("Of a text."),
                    "lines": whole("That were read, of a text."),
                    "total_lines": whole("Of the whole text."),
                    "byte_offset": whole("Of what is given as base64."),
                },
                ("first_line", "lines", "total_lines", "byte_offset"),
            ),
            ("path",),
            reads_only=True,
        ),
        Tool(
            "list_directory",
            "List a directory",
            f"The entries of a directory, hidden ones too, by name; {ENTRIES} at most.",
            files.list,
            {"path": _PATH},
            gives(
                {
                    "path": text("From the root on."),
                    "entries": tool.array(entry, "By name."),
                    "truncated": flag("There are more."),
                }
            ),
            reads_only=True,
        ),
    ]


def _writing(files: Files) -> list[Tool]:
    return [
        Tool(
            "write_file",
            "Write a file",
            f"Give a file its whole content, up to {WRITE_BYTES} bytes; it and its folders are made where needed.",
            files.write,
            {
                "path": _PATH,
                "content": text("All of it."),
                "encoding": _ENCODING,
                "overwrite": flag("Replace a file that is there; true unless said."),
            },
            gives({"path": text("From the root on."), "bytes": whole("Written."), "created": flag("It is new.")}),
            ("path", "content"),
            destroys=True,
            idempotent=True,
        ),
        Tool(
            "edit_file",
            "Edit a file",
            "Replace a piece of a text file by another, by exact match.",
            files.edit,
            {"path": _PATH, **_EDIT},
            gives({"path": text("From the root on."), "replacements": whole("How many were made.")}),
            ("path", "old_text", "new_text"),
            destroys=True,
        ),
        Tool(
            "multi_edit",
            "Edit a file in several places",
            "Replace several pieces of a text file, one after the other: all, or none if one does not match.",
            files.multi_edit,
            {"path": _PATH, "edits": tool.array(tool.obj(_EDIT, ("old_text", "new_text")), "In this order.")},
            gives({"path": text("From the root on."), "replacements": whole("How many were made.")}),
            ("path", "edits"),
            destroys=True,
        ),
    ]


def _moving(files: Files) -> list[Tool]:
    return [
        Tool(
            "move_file",
            "Move or rename",
            "Move a file or directory to another path, whose folders are made where needed.",
            files.move,
            {"source": _PATH, "destination": _PATH, "overwrite": flag("A file at the destination may go.")},
            gives({"source": text("Where it was."), "destination": text("Where it is.")}),
            ("source", "destination"),
            destroys=True,
        ),
        Tool(
            "delete_file",
            "Delete",
            "Delete a file, a link or an empty directory; with `recursive` a directory and all in it.",
            files.delete,
            {"path": _PATH, "recursive": flag("With everything in it.")},
            gives({"path": text("From the root on."), "deleted": flag("It was there.")}),
            ("path",),
            destroys=True,
            idempotent=True,
        ),
    ]
