"""Files: read, written, edited, listed, moved and deleted, all beneath the workspace's root.

Content that is not UTF-8 travels as base64, so nothing is damaged on the way. Writing replaces a file in one step:
a reader sees the old content or the new, never a half.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import shutil
import stat
from typing import Any

from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.tool import Call, Result

READ_BYTES = 1024 * 1024
"""What one call reads at most; the rest is read by ranges."""
EDIT_BYTES = 16 * 1024 * 1024
WRITE_BYTES = 8 * 1024 * 1024
ENTRIES = 1000
_ATTEMPTS = 8


class Files:
    def __init__(self, root: Beneath) -> None:
        self._root = root

    # -- reading

    def read(self, call: Call) -> Result:
        path = call["path"]
        if call.get("encoding") == "base64" or "byte_offset" in call.arguments:
            return self._read_bytes(path, call.get("byte_offset", 0), call.get("limit", READ_BYTES))
        first, limit = call.get("offset", 1), call.get("limit")
        with self._root.file(path) as descriptor:
            size = os.fstat(descriptor).st_size
            with os.fdopen(os.dup(descriptor), "rb") as file:
                if b"\0" in file.read(8192):
                    return self._read_bytes(path, 0, READ_BYTES)
                file.seek(0)
                taken: list[bytes] = []
                room, total, cut = READ_BYTES, 0, False
                for total, line in enumerate(file, 1):
                    if total < first or cut or (limit is not None and total >= first + limit):
                        continue
                    if len(line) > room:
                        cut = True
                        line = line[:room] if not taken else b""  # noqa: PLW2901 - of one long line, its beginning
                    taken += [line] if line else []
                    room -= len(line)
        try:
            content = b"".join(taken).decode("utf-8", "strict" if not cut else "ignore")
        except UnicodeDecodeError:
            return self._read_bytes(path, 0, READ_BYTES)
        return Result(
            {
                "path": self._root.relative(path),
                "content": content,
                "encoding": "utf-8",
                "size": size,
                "first_line": first,
                "lines": len(taken),
                "total_lines": total,
                "truncated": cut or first + len(taken) <= total,
            },
            content,
        )

    def _read_bytes(self, path: str, offset: int, limit: int) -> Result:
        with self._root.file(path) as descriptor:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, min(limit, READ_BYTES), offset)
        return Result(
            {
                "path": self._root.relative(path),
                "content": base64.b64encode(data).decode(),
                "encoding": "base64",
                "size": size,
                "byte_offset": offset,
                "truncated": offset + len(data) < size,
            }
        )

    def whole_text(self, path: str) -> str:
        """Raises:
        ToolFailure: it is too large to be edited, or no text.
        """
        with self._root.file(path) as descriptor:
            if os.fstat(descriptor).st_size > EDIT_BYTES:
                raise ToolFailure(f"{path} is larger than {EDIT_BYTES} bytes: edit it by a command")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read()
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ToolFailure(f"{path} is not UTF-8 text: write it as a whole, as base64") from None

    # -- writing

    def write(self, call: Call) -> Result:
        path = call["path"]
        data = _data(call["content"], call.get("encoding", "utf-8"))
        created = self.replace(path, data, create_only=not call.get("overwrite", True))
        return Result({"path": self._root.relative(path), "bytes": len(data), "created": created})

    def replace(self, path: str, data: bytes, *, create_only: bool = False) -> bool:
        """Give a file its content in one step, and make it and its folders if needed. Whether it is new."""
        if len(data) > max(WRITE_BYTES, EDIT_BYTES):
            raise ToolFailure(f"that is larger than {WRITE_BYTES} bytes")
        with self._root.parent(path, make=True) as (folder, name):
            before = _status(folder, name)
            if before is not None:
                _check_replaceable(path, before, create_only=create_only)
            for _ in range(_ATTEMPTS):
                passing = f".{secrets.token_hex(8)}.part"
                with contextlib.suppress(FileExistsError):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    descriptor = os.open(passing, flags, 0o666, dir_fd=folder)
                    break
            else:
                raise ToolFailure(f"no free name for a passing file beside {path}")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    if before is not None:
                        os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                os.rename(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(passing, dir_fd=folder)
                raise
        return before is None

    def edit(self, call: Call) -> Result:
        return self._edit(call["path"], [call.arguments])

    def multi_edit(self, call: Call) -> Result:
        return self._edit(call["path"], call["edits"])

    def _edit(self, path: str, edits: list[Any]) -> Result:
        content = self.whole_text(path)
        done = 0
        for number, edit in enumerate(edits, 1):
            old, new = edit["old_text"], edit["new_text"]
            where = f"edit {number}: " if len(edits) > 1 else ""
            if not old:
                raise ToolFailure(f"{where}old_text is empty; write_file makes new files")
            found = content.count(old)
            if not found:
                raise ToolFailure(f"{where}old_text is not in {path}: it must match exactly, spaces and line ends too")
            if found > 1 and not edit.get("replace_all", False):
                raise ToolFailure(f"{where}old_text is {found} times in {path}: give more around it, or replace_all")
            content = content.replace(old, new)
            done += found
        self.replace(path, content.encode())
        return Result({"path": self._root.relative(path), "replacements": done})

    # -- folders

    def list(self, call: Call) -> Result:
        path = call.get("path", ".")
        entries: list[dict[str, Any]] = []
        with self._root.opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            names = sorted(os.listdir(descriptor))
            for name in names[:ENTRIES]:
                status = _status(descriptor, name)
                if status is not None:
                    entries.append(
                        {
                            "name": _shown(name),
                            "type": _type(status),
                            "size": status.st_size,
                            "modified": int(status.st_mtime),
                        }
                    )
        listing = "\n".join(f"{entry['name']}{'/' if entry['type'] == 'directory' else ''}" for entry in entries)
        return Result(
            {"path": self._root.relative(path), "entries": entries, "truncated": len(names) > ENTRIES},
            listing or "(empty)",
        )

    def move(self, call: Call) -> Result:
        source, destination = call["source"], call["destination"]
        with self._root.parent(source) as (folder, name), self._root.parent(destination, make=True) as (other, new):
            if _status(folder, name) is None:
                raise ToolFailure(f"{source} is not there")
            there = _status(other, new)
            if there is not None and stat.S_ISDIR(there.st_mode):
                raise ToolFailure(f"{destination} is a directory: name the new path in full")
            if there is not None and not call.get("overwrite", False):
                raise ToolFailure(f"{destination} is there already: say overwrite if it may go")
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=other)
        return Result({"source": self._root.relative(source), "destination": self._root.relative(destination)})

    def delete(self, call: Call) -> Result:
        path = call["path"]
        with self._root.parent(path) as (folder, name):
            status = _status(folder, name)
            if status is None:
                return Result({"path": self._root.relative(path), "deleted": False})
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=folder)
            elif call.get("recursive", False):
                shutil.rmtree(name, dir_fd=folder)
            else:
                _remove_empty(path, folder, name)
        return Result({"path": self._root.relative(path), "deleted": True})


def _data(content: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        try:
            data = content.encode()
        except UnicodeEncodeError:
            raise ToolFailure("content has half a surrogate pair, which is no text: send it as base64") from None
    else:
        try:
            data = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise ToolFailure("content is not valid base64") from None
    if len(data) > WRITE_BYTES:
        raise ToolFailure(f"content is larger than {WRITE_BYTES} bytes: write it in parts by a command")
    return data


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _check_replaceable(path: str, before: os.stat_result, *, create_only: bool) -> None:
    if stat.S_ISLNK(before.st_mode):
        raise ToolFailure(f"{path} is a symbolic link: write to what it points to, or delete it first")
    if not stat.S_ISREG(before.st_mode):
        raise ToolFailure(f"{path} is a directory or a special file")
    if create_only:
        raise ToolFailure(f"{path} is there already")


def _remove_empty(path: str, folder: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        raise ToolFailure(f"{path} is a directory that is not empty: say recursive if all of it may go") from error


def _type(status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    if stat.S_ISLNK(status.st_mode):
        return "link"
    return "file" if stat.S_ISREG(status.st_mode) else "other"


def _shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")
