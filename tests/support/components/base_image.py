"""The image that ours is built on, for engines without a registry: made of this machine's own Debian packages.

It holds Python with venv, git, the certificate authorities that this machine trusts, and what they need; no apt, no
configuration of this machine, none of its users. It stands in for the official image and is no copy of it.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.support.components.engine import DockerEngine, DockerFailed
from tests.support.components.machine import have
from tests.support.components.missing import ComponentMissing, tried_once

TAG = "python:3.11-slim-bookworm"

_WANTED = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "libc-bin"),
    *("libstdc++6", "passwd", "procps", "sed", "tar", "util-linux"),
    *("ca-certificates", "git", "python3", "python3-venv", "tini"),
)
_OLDEST_PYTHON = (3, 11)
# Debian's needs that ours are not: git's rare commands in Perl, questions on installation, manuals.
_UNWANTED = {"perl", "liberror-perl", "debconf", "git-man"}
_LEFT_OUT = re.compile(r"/usr/share/(doc|doc-base|info|lintian|locale|man|bash-completion)/.")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# What packages make on installation, where it comes from, and links that the official image has.
_COPIED = {
    "/etc/passwd": "/usr/share/base-passwd/passwd.master",
    "/etc/group": "/usr/share/base-passwd/group.master",
    _AUTHORITIES: _AUTHORITIES,
}
_LINKS = {"/usr/bin/python": "python3"}
_SETTINGS = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    'CMD ["python3"]',
)
_STATUS = Path("/var/lib/dpkg/status")
_PULL_SECONDS = 120
_IMPORT_SECONDS = 120


@contextlib.contextmanager
def base_image(engine: DockerEngine) -> Iterator[str]:
    """The tag that our Dockerfile names, there to be built on. Taken away afterwards if it was made here.

    Raises:
        ComponentMissing: the engine has no such image and can pull none, and this is not Debian.
    """
    if _there(engine) or (not engine.ours and _pulled(engine)):
        yield TAG
        return
    _import(engine)
    try:
        yield TAG
    finally:
        if not engine.ours:
            engine.run("rmi", "--force", TAG)


def _there(engine: DockerEngine) -> bool:
    return bool(engine.run("images", "--quiet", TAG).strip())


def _pulled(engine: DockerEngine) -> bool:
    try:
        engine.run("pull", "--quiet", TAG, timeout=_PULL_SECONDS)
    except (DockerFailed, subprocess.TimeoutExpired):
        return False
    return True


def _import(engine: DockerEngine) -> None:
    changes = [word for setting in _SETTINGS for word in ("--change", setting)]
    with tempfile.NamedTemporaryFile(prefix="gatehouse-image-", suffix=".tar") as file:
        _write(file, _files(_packages()))
        engine.run("import", *changes, file.name, TAG, timeout=_IMPORT_SECONDS)


@tried_once
def _packages() -> tuple[str, ...]:
    """Every installed package that the wanted ones need, themselves included."""
    have("base-image", lambda: _STATUS if set(_WANTED) <= set(_installed()[0]) else None, *_WANTED)
    _check_python()
    needs, provided = _installed()
    found: set[str] = set()
    left = list(_WANTED)
    while left:
        name = left.pop()
        if name in needs and name not in found | _UNWANTED:
            found.add(name)
            left += needs[name]
        elif name not in needs:  # a virtual one; of alternatives, those that are there
            left += provided.get(name, [])
    return tuple(sorted(found))


def _check_python() -> None:
    version = ast.literal_eval(_said("/usr/bin/python3", "-c", "import sys; print(tuple(sys.version_info[:2]))"))
    if version < _OLDEST_PYTHON:
        raise ComponentMissing("base-image", f"this Debian's Python {version} is older than {_OLDEST_PYTHON}")


def _installed() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What each installed package needs, and which ones stand for a virtual one."""
    if not _STATUS.exists():
        return {}, {}
    form = "${db:Status-Status}\t${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    needs: dict[str, list[str]] = {}
    provided: dict[str, list[str]] = {}
    for line in _said("dpkg-query", "--show", "--showformat", form).splitlines():
        status, package, depends, provides = line.split("\t")
        if status == "installed":
            needs[package] = _names(depends)
            for virtual in _names(provides):
                provided.setdefault(virtual, []).append(package)
    return needs, provided


def _names(relation: str) -> list[str]:
    """The packages named in a line of a package's description: `a (>= 1) | b, c:any`."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", relation)


def _files(packages: tuple[str, ...]) -> list[str]:
    """The paths of these packages, parents first, each where it really lies: `/lib/x` may be in `/usr/lib`."""
    listed = set(_said("dpkg-query", "--listfiles", *packages).splitlines())
    paths: set[str] = set()
    for path in listed:
        if path.startswith("/") and path != "/." and not _LEFT_OUT.match(path):
            folder, name = os.path.split(path)
            paths.add(str(Path(os.path.realpath(folder), name)))
    return sorted(path for path in paths if os.path.lexists(path))


def _write(target: IO[bytes], paths: list[str]) -> None:
    with tarfile.open(fileobj=target, mode="w") as tar:
        for path in paths:
            if path not in _COPIED and path not in _LINKS:
                _add(tar, path, path)
        for path, source in _COPIED.items():
            _add(tar, os.path.realpath(source), path)
        for path, source in _LINKS.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, source
            tar.addfile(link)
    target.flush()


def _add(tar: tarfile.TarFile, source: str, path: str) -> None:
    entry = tar.gettarinfo(source, path)
    entry.uname = entry.gname = ""  # the numbers count; the names are this machine's
    if entry.isreg():
        with Path(source).open("rb") as content:
            tar.addfile(entry, content)
    else:
        tar.addfile(entry)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
