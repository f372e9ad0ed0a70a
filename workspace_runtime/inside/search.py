"""Finding files by name and lines by content: ripgrep where the image has it, else the same by hand.

Both start in a folder that was opened beneath the root and do not follow symbolic links, so they stay beneath it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

from workspace_runtime.inside import tool
from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.tool import Call, Result, Tool, flag, gives, text, whole

MATCHES = 1000
LINE = 1000
"""Characters of a line that are shown."""
FILE_BYTES = 8 * 1024 * 1024
"""Larger files are not searched by hand."""
SECONDS = 30
_SKIPPED = {".git"}


class Search:
    """Args:
    ripgrep: its program; `None` to search by hand.
    """

    def __init__(self, root: Beneath, ripgrep: str | None = None) -> None:
        self._root = root
        self._ripgrep = ripgrep

    @classmethod
    def with_what_is_there(cls, root: Beneath) -> Search:
        return cls(root, shutil.which("rg"))

    def glob(self, call: Call) -> Result:
        base = self._root.relative(call.get("path", "."))
        pattern = compiled(call["pattern"])
        found: list[str] = []
        for name, _ in self._walk(base):
            if pattern.fullmatch(name):
                found.append(_joined(base, name))
                if len(found) > MATCHES:
                    break
        paths = sorted(found[:MATCHES])
        return Result({"paths": paths, "truncated": len(found) > MATCHES}, "\n".join(paths) or "(nothing)")

    def search(self, call: Call) -> Result:
        base = self._root.relative(call.get("path", "."))
        limit = call.get("max_matches", 200)
        if self._ripgrep:
            matches, more = self._by_ripgrep(base, call, limit)
        else:
            matches, more = self._by_hand(base, call, limit)
        said = "\n".join(f"{match['path']}:{match['line']}:{match['text']}" for match in matches)
        return Result({"matches": matches, "truncated": more}, said or "(nothing)")

    # -- by ripgrep

    def _by_ripgrep(self, base: str, call: Call, limit: int) -> tuple[list[dict[str, Any]], bool]:
        assert self._ripgrep
        command = [self._ripgrep, *_ripgrep_options(call), "--regexp", call["pattern"], "--", "."]
        matches: list[dict[str, Any]] = []
        with self._root.opened(base, os.O_RDONLY) as descriptor:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                command[-1] = f"/proc/self/fd/{descriptor}"
                folder = None
            else:
                folder = f"/proc/self/fd/{descriptor}"
            with subprocess.Popen(  # noqa: S603 - what is the caller's stands behind its option or `--`
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=(descriptor,),
            ) as process:  # fmt: skip
                assert process.stdout
                assert process.stderr
                for line in process.stdout:
                    said = json.loads(line)
                    if said["type"] == "match":
                        matches.append(_ripgrep_match(base if folder is None else "", said["data"], base))
                        if len(matches) > limit:
                            process.kill()
                            break
                words = process.stderr.read(4096).decode(errors="replace").strip()
        if process.returncode == 2 and not matches:
            raise ToolFailure(f"the search failed: {words}")
        return matches[:limit], len(matches) > limit

    # -- by hand

    def _by_hand(self, base: str, call: Call, limit: int) -> tuple[list[dict[str, Any]], bool]:
        source = re.escape(call["pattern"]) if call.get("literal") else call["pattern"]
        try:
            pattern = re.compile(source.encode(), re.IGNORECASE if call.get("ignore_case") else 0)
        except re.error as error:
            raise ToolFailure(f"the pattern is no regular expression: {error}") from None
        wanted = compiled(call["glob"], anywhere=True) if "glob" in call.arguments else None
        matches: list[dict[str, Any]] = []
        for name, mode in self._walk(base):
            if not stat.S_ISREG(mode) or (wanted and not wanted.fullmatch(name)):
                continue
            for number, line in self._lines(_joined(base, name)):
                found = pattern.search(line)
                if found:
                    if len(matches) == limit:
                        return matches, True
                    matches.append(_match(_joined(base, name), number, line, found.start()))
        return matches, False

    def _lines(self, path: str) -> Iterator[tuple[int, bytes]]:
        try:
            with self._root.file(path) as descriptor:
                if os.fstat(descriptor).st_size > FILE_BYTES:
                    return
                with os.fdopen(os.dup(descriptor), "rb") as file:
                    data = file.read()
        except (OSError, ToolFailure):
            return  # gone or replaced meanwhile, or not ours to read
        if b"\0" not in data[:8192]:
            yield from enumerate(data.splitlines(), 1)

    def _walk(self, base: str) -> Iterator[tuple[str, int]]:
        """Every file and link beneath a folder, by its name from there, with its mode. Folders of git are left out."""
        with self._root.opened(base) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISDIR(mode):
                yield "", mode
                return
            for folder, folders, names, inner in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
                folders[:] = sorted(name for name in folders if name not in _SKIPPED)
                for name in sorted(names):
                    try:
                        status = os.stat(name, dir_fd=inner, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield os.path.normpath(os.path.join(folder, name)), status.st_mode

    def tools(self) -> list[Tool]:
        path = text("A folder to begin in; the workspace's root unless said.")
        match = gives(
            {
                "path": text("From the root on."),
                "line": whole("Counted from 1."),
                "column": whole("In bytes, counted from 1."),
                "text": text(f"The line, up to {LINE} characters."),
            }
        )
        return [
            Tool(
                "glob",
                "Find files by name",
                f"Paths that match a pattern: `*` within a name, `**` across folders, `?`, `[abc]`. {MATCHES} at most.",
                self.glob,
                {"pattern": text("As `**/*.py`, from `path` on."), "path": path},
                gives(
                    {"paths": tool.array(text("From the root on."), "By name."), "truncated": flag("There are more.")}
                ),
                ("pattern",),
                reads_only=True,
            ),
            Tool(
                "search",
                "Search in files",
                "Lines that match a regular expression. What git ignores is left out where ripgrep is there to do it.",
                self.search,
                {
                    "pattern": text("A regular expression."),
                    "path": path,
                    "glob": text("Only files whose name or path matches, as `*.py`."),
                    "ignore_case": flag("Upper and lower case are the same."),
                    "literal": flag("The pattern is plain text."),
                    "ignored_too": flag("Search what git ignores as well."),
                    "max_matches": whole("200 unless said.", minimum=1, maximum=MATCHES),
                },
                gives({"matches": tool.array(match, "By path."), "truncated": flag("There are more.")}),
                ("pattern",),
                reads_only=True,
            ),
        ]


def compiled(pattern: str, *, anywhere: bool = False) -> re.Pattern[str]:
    """A glob as a regular expression for whole paths.

    Args:
        anywhere: a pattern without a slash holds for the name in any folder.
    """
    pattern = pattern.removeprefix("./")
    if anywhere and "/" not in pattern:
        pattern = f"**/{pattern}"
    out: list[str] = []
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|[^*?\[]+|\[", pattern):
        if part == "**/":
            out.append("(?:.*/)?")
        elif part == "**":
            out.append(".*")
        elif part == "*":
            out.append("[^/]*")
        elif part == "?":
            out.append("[^/]")
        elif part.startswith("[") and part.endswith("]"):
            out.append(fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z"))
        else:
            out.append(re.escape(part))
    return re.compile("".join(out), re.DOTALL)


def _ripgrep_options(call: Call) -> list[str]:
    options = ["--no-config", "--no-messages", "--json", "--no-follow", "--hidden", "--no-require-git", "--sort=path"]
    options += ["--glob=!.git", f"--max-filesize={FILE_BYTES}"]
    for name, option in (
        ("ignore_case", "--ignore-case"),
        ("literal", "--fixed-strings"),
        ("ignored_too", "--no-ignore"),
    ):
        options += [option] if call.get(name) else []
    return options + ([f"--glob={call['glob']}"] if "glob" in call.arguments else [])


def _joined(base: str, name: str) -> str:
    return os.fsencode(os.path.normpath(os.path.join(base, name))).decode("utf-8", "replace")


def _match(path: str, number: int, line: bytes, start: int) -> dict[str, Any]:
    shown = line.decode("utf-8", "replace").rstrip("\r\n")[:LINE]
    return {"path": path, "line": number, "column": start + 1, "text": shown}


def _ripgrep_match(file: str, data: dict[str, Any], base: str) -> dict[str, Any]:
    path = file or _joined(base, data["path"].get("text", "?"))
    line = data["lines"].get("text", "")
    start = data["submatches"][0]["start"] if data["submatches"] else 0
    return _match(path, data["line_number"], line.encode(), start)
