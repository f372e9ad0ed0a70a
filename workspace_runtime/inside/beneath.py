"""Files beneath one folder: no path, symbolic link or race leads out of it.

The kernel resolves paths by `openat2` with RESOLVE_BENEATH, in one step that nobody can interfere with; where it has no
such call, `_walk` goes from folder to folder by descriptors. What is not opened but changed (renamed, removed) is named
by the descriptor of its folder and its last name, which is never followed. Hard links need no word: the folder is a
file system of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import stat
from collections.abc import Generator

from workspace_runtime.inside.failure import ToolFailure

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_TRIES = 64
"""`openat2` asks to be called again when a rename elsewhere disturbed it."""
_LINKS = 40
_ALWAYS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Not to wait for the other end of a named pipe, nor to be handed a terminal."""
_NO_SUCH_CALL = (errno.ENOSYS, errno.EPERM, errno.E2BIG)
_OUTSIDE = (errno.EXDEV, errno.ELOOP)

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Beneath:
    """One folder, and what is beneath it.

    Args:
        path: of the folder; absolute.
        by_kernel: whether `openat2` may be used. Only tests say no.
    """

    def __init__(self, path: str, *, by_kernel: bool = True) -> None:
        self.path = os.path.realpath(path)
        self._fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._by_kernel = by_kernel

    def close(self) -> None:
        os.close(self._fd)

    def relative(self, path: str) -> str:
        """The path from the folder on, `.` for itself. Absolute paths are taken if they begin with the folder's.

        Raises:
            ToolFailure: it leads out, or is no path.
        """
        if "\0" in path:
            raise ToolFailure("a path cannot contain a zero byte")
        if len(os.fsencode(path)) > 4096:
            raise ToolFailure("the path is longer than 4096 bytes")
        whole = posixpath.normpath(posixpath.join(self.path, path))
        if whole == self.path:
            return "."
        if not whole.startswith(self.path + "/"):
            raise ToolFailure(f"{path} is outside the workspace {self.path}")
        return whole[len(self.path) + 1 :]

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Open what a path leads to, through links that stay beneath the folder. Give its descriptor, to be closed.

        Raises:
            ToolFailure: the path leads out.
            OSError: as from `os.open`.
        """
        relative = self.relative(path)
        flags |= os.O_CLOEXEC if flags & os.O_PATH else _ALWAYS
        try:
            if self._by_kernel:
                return self._openat2(relative, flags, mode)
            return self._walk(relative, flags, mode)
        except OSError as error:
            if error.errno in _OUTSIDE:
                raise ToolFailure(f"{path} leads out of the workspace through a symbolic link") from None
            raise

    @contextlib.contextmanager
    def opened(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> Generator[int]:
        descriptor = self.open(path, flags, mode)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def file(self, path: str) -> Generator[int]:
        """A regular file, opened to be read.

        Raises:
            ToolFailure: it is something else, or leads out.
        """
        with self.opened(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise ToolFailure(f"{path} is a directory")
            if not stat.S_ISREG(mode):
                raise ToolFailure(f"{path} is no regular file")
            yield descriptor

    @contextlib.contextmanager
    def parent(self, path: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """The descriptor of the folder that something is in, and its name there, for calls that take `dir_fd`.

        Args:
            make: folders that are not there.
        """
        relative = self.relative(path)
        if relative == ".":
            raise ToolFailure("the workspace itself cannot be replaced, moved or deleted")
        folder, name = posixpath.split(relative)
        if make:
            self.make_folders(folder)
        with self.opened(folder or ".", os.O_PATH | os.O_DIRECTORY) as descriptor:
            yield descriptor, name

    def make_folders(self, path: str) -> None:
        """Make a folder and those it is in, where they are not there."""
        so_far = "."
        for name in [name for name in self.relative(path).split("/") if name != "."]:
            with self.opened(so_far, os.O_PATH | os.O_DIRECTORY) as descriptor, contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=descriptor)
            so_far = posixpath.join(so_far, name)

    def _openat2(self, relative: str, flags: int, mode: int) -> int:
        how = _How(flags, mode if flags & os.O_CREAT else 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        for _ in range(_TRIES):
            made = _libc.syscall(_OPENAT2, self._fd, os.fsencode(relative), ctypes.byref(how), ctypes.sizeof(how))
            if made >= 0:
                return made
            number = ctypes.get_errno()
            if number in _NO_SUCH_CALL:
                return self._walk(relative, flags, mode)
            if number != errno.EAGAIN:
                raise OSError(number, os.strerror(number), relative)
        raise OSError(errno.EAGAIN, "too much is being renamed", relative)

    def _walk(self, relative: str, flags: int, mode: int) -> int:
        """`openat2` in several steps: each name is looked up in an open folder, each link is followed by us."""
        folders = [os.dup(self._fd)]
        left = [name for name in reversed(relative.split("/")) if name not in {"", "."}]
        links = 0
        try:
            while left:
                name = left.pop()
                if name == "..":
                    if len(folders) == 1:
                        raise OSError(errno.EXDEV, "leads out", relative)
                    os.close(folders.pop())
                    continue
                target = _link(folders[-1], name)
                if target is not None and not (flags & os.O_NOFOLLOW and not left):
                    links += 1
                    if links > _LINKS or target.startswith("/"):
                        raise OSError(errno.ELOOP, "leads out or in circles", relative)
                    left += [part for part in reversed(target.split("/")) if part not in {"", "."}]
                elif left:
                    deeper = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    folders.append(os.open(name, deeper, dir_fd=folders[-1]))
                else:
                    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=folders[-1])
            return os.open(".", flags & ~os.O_CREAT, dir_fd=folders[-1])
        finally:
            for descriptor in folders:
                os.close(descriptor)


def _link(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise
