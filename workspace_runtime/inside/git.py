"""Git, for agents: typed results, and no way for a repository or an argument to run anything.

Every call runs git with an environment of its own (`_environment`) and settings that override the repository's
(`_settings`): no hooks, no file-system monitor, no filters, no external diff, no pager, no signing, no transports but
those listed. Names are checked before git sees them, and stand behind `--end-of-options` or `--`. Filters and hooks
that a person wants are run by a command in the shell. Credentials reach git in memory only (`_Secrets`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import re
import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure

SECONDS = 60
NETWORK_SECONDS = 600
OUTPUT_BYTES = 1024 * 1024
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
PROTOCOLS = ("file", "http", "https", "ssh")
"""`git://` is not among them: a repository's settings name a program for it."""

# What a repository's own configuration may not decide.
_FIXED = {
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "core.alternateRefsCommand": "",
    "core.askPass": "",
    "core.editor": "true",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.quotePath": "false",
    "credential.helper": "",
    "diff.external": "",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "gpg.program": "false",
    "http.sslVerify": "true",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "merge.verifySignatures": "false",
    "protocol.ext.allow": "never",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "sequence.editor": "true",
    "submodule.recurse": "false",
    "tag.gpgSign": "false",
}
_REFUSED_VALUES = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$")
_REVISION = re.compile(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*")
_SCP = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^:].*)")


@dataclass(frozen=True)
class Said:
    """What git said.

    Args:
        code: its exit code.
        cut: its output was longer than `OUTPUT_BYTES`.
    """

    code: int
    out: str
    err: str
    cut: bool = False


class Git:
    """Args:
    env: the container's, from which git gets what it needs: PATH, proxies, the author's name.
    """

    def __init__(self, root: Beneath, env: Mapping[str, str]) -> None:
        self._root = root
        self._env = _environment(root.path, env)

    async def begin(self) -> None:
        """Make the workspace's root a repository on `main`, if there is nothing in it yet."""
        if not os.listdir(self._root.path):
            said = await self._git(self._root.path, ["init", "--quiet", "--template=", "--initial-branch=main", "."])
            if said.code:
                raise ToolFailure(f"no repository could be made: {said.err}")

    async def run(
        self,
        repository: str,
        arguments: Sequence[str],
        *,
        accept: Sequence[int] = (0,),
        seconds: float = SECONDS,
        credentials: Sequence[Mapping[str, str]] = (),
        stdin: bytes | None = None,
    ) -> Said:
        """Run git in a repository of the workspace.

        Args:
            repository: a folder in it.
            accept: exit codes that are no failure.

        Raises:
            ToolFailure: there is no repository, it lies outside, or git complained.
        """
        folder = self.folder(repository)
        settings = await self._settings(folder)
        said = await self._git(folder, arguments, settings, seconds=seconds, credentials=credentials, stdin=stdin)
        if said.code not in accept:
            raise ToolFailure(_complaint(said))
        return said

    async def clone(self, url: str, folder: str, more: Sequence[str], credentials: Sequence[Mapping[str, str]]) -> Said:
        """Clone into a folder that is not there yet or empty."""
        relative = self._root.relative(folder)
        self._root.make_folders(posixpath.dirname(relative) or ".")
        with self._root.opened(posixpath.dirname(relative) or ".", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            within = os.readlink(f"/proc/self/fd/{descriptor}")
            command = ["clone", "--quiet", "--no-recurse-submodules", "--template=", "--no-local", *more]
            command += ["--upload-pack=git-upload-pack", "--", url, posixpath.basename(relative)]
            said = await self._git(within, command, _options(_FIXED), seconds=NETWORK_SECONDS, credentials=credentials)
        if said.code:
            raise ToolFailure(_complaint(said))
        return said

    def folder(self, repository: str) -> str:
        """The real path of a folder of the workspace."""
        with self._root.opened(repository, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            return os.readlink(f"/proc/self/fd/{descriptor}")

    def paths(self, repository: str, paths: Sequence[str]) -> list[str]:
        """Paths as git is given them: absolute, and beneath the root."""
        base = self.folder(repository)
        return [posixpath.join(self._root.path, self._root.relative(posixpath.join(base, path))) for path in paths]

    async def revision(self, repository: str, name: str, kind: str = "commit") -> str:
        """The object that a name means, as its hash, so that what follows sees no name.

        Raises:
            ToolFailure: it means none, or is no name.
        """
        if not _REVISION.fullmatch(name):
            raise ToolFailure(f"{name!r} is no revision")
        said = await self.run(
            repository,
            ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{{kind}}}"],
            accept=(0, 1, 128),
        )
        if said.code:
            raise ToolFailure(f"there is no {kind} {name}")
        return said.out.strip()

    async def _settings(self, folder: str) -> list[str]:
        """Options that take from the repository's configuration what could run something.

        Raises:
            ToolFailure: there is no repository, or it lies outside of the workspace.
        """
        where = await self._git(
            folder, ["rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository", "--show-cdup"]
        )
        if where.code:
            raise ToolFailure(f"{self._root.relative(folder)} is in no git repository: git_clone makes one")
        lines = where.out.split("\n")
        places = [lines[0], posixpath.join(folder, lines[1])]
        if lines[2] == "false":
            places.append(posixpath.join(folder, lines[3] if len(lines) > 3 else ""))
        for place in places:
            real = os.path.realpath(place)
            if real != self._root.path and not real.startswith(self._root.path + "/"):
                raise ToolFailure("the repository's own settings place it outside of the workspace")
        listed = await self._git(folder, ["config", "--list", "--includes", "--name-only", "-z"])
        return _options(_FIXED | _programs(listed.out.split("\0")))

    async def _git(
        self,
        folder: str,
        arguments: Sequence[str],
        settings: Sequence[str] = (),
        *,
        seconds: float = SECONDS,
        credentials: Sequence[Mapping[str, str]] = (),
        stdin: bytes | None = None,
    ) -> Said:
        literal = ["--literal-pathspecs"] if "--" in arguments else []  # git's own stash does not understand it
        with _Secrets(credentials).given() as (options, descriptors):
            try:
                process = await asyncio.create_subprocess_exec(
                    *("git", "--no-pager", *literal, *settings, *options, *arguments),
                    cwd=folder,
                    env=self._env,
                    stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    pass_fds=descriptors,
                )
            except FileNotFoundError:
                raise ToolFailure("this image has no git") from None
            try:
                async with asyncio.timeout(seconds):
                    return await _collect(process, stdin)
            except TimeoutError:
                raise ToolFailure(f"git did not end within {seconds:.0f} s") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()


class _Secrets:
    """Credentials for remotes, handed to git through files that exist in memory only.

    Each belongs to one origin; git asks for it when that origin asks git. The first option forgets all helpers that the
    repository configures, so that none of them is told to store it. Other programs of the container run as the same
    user: one that looks at git while it runs can see what git is given.
    """

    def __init__(self, credentials: Sequence[Mapping[str, str]]) -> None:
        self._credentials = credentials

    @contextlib.contextmanager
    def given(self) -> Generator[tuple[list[str], list[int]]]:
        options: list[str] = []
        descriptors: list[int] = []
        try:
            for credential in self._credentials:
                descriptor = os.memfd_create("credential", 0)
                descriptors.append(descriptor)
                username, password = credential.get("username", ""), credential.get("password", "")
                if any(letter in username + password for letter in "\n\r\0"):
                    raise ToolFailure("a username or password cannot hold a line end")
                os.write(descriptor, f"username={username}\npassword={password}\n".encode())
                helper = f'!f() {{ test "$1" = get && cat /proc/self/fd/{descriptor}; }}; f'
                scope = origin(credential["url"])
                options += ["-c", f"credential.{scope}.helper=", "-c", f"credential.{scope}.helper={helper}"]
            yield options, descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


async def _collect(process: asyncio.subprocess.Process, stdin: bytes | None) -> Said:
    assert process.stdout
    assert process.stderr
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(stdin or b"")
            await process.stdin.drain()
        process.stdin.close()
    (out, cut), (err, _) = await asyncio.gather(_limited(process.stdout), _limited(process.stderr))
    code = await process.wait()
    return Said(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace").strip(), cut)


async def _limited(stream: asyncio.StreamReader) -> tuple[bytes, bool]:
    taken = bytearray()
    cut = False
    while data := await stream.read(65536):
        room = OUTPUT_BYTES - len(taken)
        taken += data[:room]
        cut = cut or len(data) > room
    return bytes(taken), cut


def _environment(root: str, env: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY")
    name = env.get("GATEHOUSE_GIT_NAME", "Gatehouse workspace")
    email = env.get("GATEHOUSE_GIT_EMAIL", "workspace@gatehouse.invalid")
    return {
        **{key: env[key] for key in kept if key in env},
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
        "GIT_ASKPASS": "true",
        "GIT_AUTHOR_EMAIL": email,
        "GIT_AUTHOR_NAME": name,
        "GIT_CEILING_DIRECTORIES": posixpath.dirname(root),
        "GIT_COMMITTER_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_EDITOR": "true",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


def _options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _programs(names: Sequence[str]) -> dict[str, str]:
    """Overrides for each filter, diff, merge and credential program that a configuration names.

    Raises:
        ToolFailure: the configuration changes under way, as with the branch, so that its programs cannot be known.
    """
    overrides: dict[str, str] = {}
    for name in names:
        section, _, rest = name.partition(".")
        subsection, _, key = rest.rpartition(".")
        if section == "includeif":
            raise ToolFailure("this repository's configuration has conditional includes: remove them, or use the shell")
        if "=" in subsection or "\n" in subsection:
            raise ToolFailure("this repository's configuration has a section that cannot be overridden: use the shell")
        if section == "filter" and key in {"clean", "smudge", "process"}:
            overrides |= {name: "", f"filter.{subsection}.required": "false"}
        elif section == "diff" and key in {"command", "textconv"}:
            overrides[name] = ""
        elif section == "merge" and key == "driver":
            overrides[name] = "false"
        elif section == "credential" and key == "helper" and subsection:
            overrides[name] = ""
        elif section == "remote" and key == "vcs":
            raise ToolFailure("this repository has a remote with a program of its own: use the shell")
        elif section == "remote" and key in {"uploadpack", "receivepack"}:
            overrides[name] = {"uploadpack": "git-upload-pack", "receivepack": "git-receive-pack"}[key]
    return overrides


def branch_name(name: str) -> str:
    """Raises:
    ToolFailure: it is no name for a branch.
    """
    if not name or len(name) > 255 or _REFUSED_VALUES.search(name) or name in {"@", "HEAD"}:
        raise ToolFailure(f"{name!r} is no name for a branch")
    return name


def remote_name(name: str) -> str:
    """Raises:
    ToolFailure: it is no name for a remote.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ToolFailure(f"{name!r} is no name for a remote")
    return name


def remote_url(url: str) -> str:
    """Raises:
    ToolFailure: it is no address that may be cloned from.
    """
    if url.startswith("-") or "::" in url or any(ord(letter) < 33 or ord(letter) == 127 for letter in url):
        raise ToolFailure(f"{url!r} is no address of a repository")
    scheme = urlsplit(url).scheme
    if "://" in url:
        if scheme not in PROTOCOLS:
            raise ToolFailure(f"{scheme}:// is not supported: {', '.join(PROTOCOLS)} are")
        if urlsplit(url).password:
            raise ToolFailure("an address with a password would be stored in the repository: give `credentials`")
        if (urlsplit(url).hostname or "").startswith("-"):
            raise ToolFailure(f"{url!r} is no address of a repository")
    elif not url.startswith("/") and not _SCP.fullmatch(url):
        raise ToolFailure(f"{url!r} is no address: give a URL or an absolute path")
    return url


def origin(url: str) -> str:
    """Scheme, host and port: what a credential holds for.

    Raises:
        ToolFailure: credentials cannot be sent there safely.
    """
    parts = urlsplit(url)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ToolFailure("credentials are sent by https only")
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


def _complaint(said: Said) -> str:
    words = said.err or said.out.strip() or f"exit code {said.code}"
    return f"git: {words[-4000:]}"
