"""What the tools that speak git do. `git` keeps them safe, `git_offer` shows them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.git import (
    EMPTY_TREE,
    NETWORK_SECONDS,
    Git,
    Said,
    branch_name,
    origin,
    remote_name,
    remote_url,
)
from workspace_runtime.inside.tool import Call, Result

_KINDS = {
    "A": "added",
    "M": "modified",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "T": "type changed",
    "U": "unmerged",
}
_LOG = "%H%x00%h%x00%an%x00%ae%x00%aI%x00%P%x00%s%x00%b%x00%x01"
_DIFF = ["--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all"]


class GitTools:
    def __init__(self, git: Git) -> None:
        self._git = git

    # -- looking

    async def status(self, call: Call) -> Result:
        where = call.get("repository", ".")
        said = await self._git.run(
            where, ["status", "--porcelain=v2", "--branch", "--untracked-files=all", "--ignore-submodules=all", "-z"]
        )
        structured = parse_status(said.out)
        lines = [f"on {structured['branch'] or 'no branch'}: {structured['status']}"]
        for kind in ("staged", "changed", "conflicted"):
            lines += [f"{kind}: {entry['path']} ({entry['change']})" for entry in structured[kind]]
        lines += [f"untracked: {path}" for path in structured["untracked"]]
        return Result(structured, "\n".join(lines))

    async def diff(self, call: Call) -> Result:
        where = call.get("repository", ".")
        command = ["diff", *_DIFF, f"--unified={call.get('context', 3)}"]
        command += ["--cached"] if call.get("staged") else []
        for name in ("from", "to"):
            if name in call.arguments:
                command.append(await self._git.revision(where, call[name]))
        return _diff(await self._git.run(where, [*command, "--", *self._paths(call)]))

    async def log(self, call: Call) -> Result:
        where = call.get("repository", ".")
        limit = call.get("limit", 20)
        if "revision" in call.arguments:
            start = await self._git.revision(where, call["revision"])
        else:
            head = await self._git.run(where, ["rev-parse", "--verify", "--quiet", "HEAD"], accept=(0, 1, 128))
            if head.code:
                return Result({"commits": [], "more": False}, "(no commit yet)")
            start = head.out.strip()
        said = await self._git.run(
            where,
            [
                "log",
                f"--format={_LOG}",
                f"--max-count={limit + 1}",
                f"--skip={call.get('skip', 0)}",
                start,
                "--",
                *self._paths(call),
            ],
        )
        commits = parse_log(said.out)
        lines = [
            f"{commit['short']} {commit['date'][:10]} {commit['author']}: {commit['subject']}" for commit in commits
        ]
        return Result(
            {"commits": commits[:limit], "more": len(commits) > limit}, "\n".join(lines[:limit]) or "(nothing)"
        )

    async def show(self, call: Call) -> Result:
        where, revision = call.get("repository", "."), call.get("revision", "HEAD")
        if "path" in call.arguments:
            return await self._show_file(where, await self._git.revision(where, revision), call["path"])
        commit = await self._git.revision(where, revision)
        log = await self._git.run(where, ["log", f"--format={_LOG}", "--max-count=1", commit, "--"])
        found = parse_log(log.out)[0]
        parent = found["parents"][0] if found["parents"] else EMPTY_TREE
        said = await self._git.run(where, ["diff", *_DIFF, parent, commit, "--"])
        return Result({"commit": found, "diff": said.out, "truncated": said.cut}, f"{_headline(found)}\n\n{said.out}")

    async def _show_file(self, where: str, commit: str, path: str) -> Result:
        relative = posixpath.normpath(path)
        if relative.startswith(("/", "..")):
            raise ToolFailure("path is relative to the repository here")
        said = await self._git.run(where, ["cat-file", "blob", f"{commit}:{relative}"], accept=(0, 128))
        if said.code:
            raise ToolFailure(f"{path} is no file in that commit")
        return Result({"content": said.out, "truncated": said.cut}, said.out)

    # -- changing

    async def add(self, call: Call) -> Result:
        where = call.get("repository", ".")
        if call.get("all"):
            await self._git.run(where, ["add", "--all"])
        elif call.get("paths"):
            await self._git.run(where, ["add", "--", *self._paths(call)])
        else:
            raise ToolFailure("say which paths, or all")
        return await self.status(call)

    async def commit(self, call: Call) -> Result:
        where = call.get("repository", ".")
        command = ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--file=-", "--cleanup=whitespace"]
        command += ["--all"] if call.get("all") else []
        command += ["--amend"] if call.get("amend") else []
        command += ["--allow-empty"] if call.get("allow_empty") else []
        message = call["message"].strip()
        if not message:
            raise ToolFailure("message is empty")
        said = await self._git.run(where, command, accept=(0, 1), stdin=message.encode())
        if said.code:
            raise ToolFailure("there is nothing to commit: git_add says what is to be in it")
        commit = await self._git.revision(where, "HEAD")
        branch = await self._git.run(where, ["symbolic-ref", "--quiet", "--short", "HEAD"], accept=(0, 1))
        structured = {"commit": commit, "branch": branch.out.strip(), "subject": message.splitlines()[0]}
        return Result(structured, f"{commit[:10]} {structured['subject']}")

    async def branch(self, call: Call) -> Result:
        where, action = call.get("repository", "."), call.get("action", "list")
        if action == "create":
            name = branch_name(call.get("name", ""))
            start = [await self._git.revision(where, call["start"])] if "start" in call.arguments else []
            await self._git.run(where, ["branch", "--no-track", "--", name, *start])
        elif action == "delete":
            force = ["--force"] if call.get("force") else []
            await self._git.run(where, ["branch", "--delete", *force, "--", branch_name(call.get("name", ""))])
        elif action == "rename":
            names = [branch_name(call.get("name", "")), branch_name(call.get("new_name", ""))]
            await self._git.run(where, ["branch", "--move", "--", *names])
        said = await self._git.run(
            where,
            [
                "for-each-ref",
                "--format=%(HEAD)%00%(refname)%00%(objectname)%00%(upstream)",
                "refs/heads",
                "refs/remotes",
            ],
        )
        branches = [_branch(line) for line in said.out.splitlines()]
        current = next((branch["name"] for branch in branches if branch["current"]), "")
        lines = [f"{'*' if branch['current'] else ' '} {branch['name']}" for branch in branches]
        return Result({"current": current, "branches": branches}, "\n".join(lines) or "(no branch yet)")

    async def checkout(self, call: Call) -> Result:
        where = call.get("repository", ".")
        if call.get("paths"):
            source = await self._git.revision(where, call.get("target", "HEAD"))
            await self._git.run(where, ["checkout", "--quiet", source, "--", *self._paths(call)])
        elif "target" not in call.arguments:
            raise ToolFailure("say what to check out: target, or paths to restore")
        elif call.get("create"):
            name = branch_name(call["target"])
            start = [await self._git.revision(where, call["start"])] if "start" in call.arguments else []
            await self._git.run(where, ["checkout", "--quiet", "--no-track", "-b", name, *start, "--"])
        else:
            await self._check_out(where, call["target"])
        return await self.status(call)

    async def _check_out(self, where: str, target: str) -> None:
        known = await self._git.run(
            where, ["show-ref", "--verify", "--quiet", "--", f"refs/heads/{target}"], accept=(0, 1, 128)
        )
        if known.code == 0:
            await self._git.run(where, ["checkout", "--quiet", branch_name(target), "--"])
            return
        remote = (
            await self._git.run(
                where, ["for-each-ref", "--format=%(refname:short)", f"refs/remotes/*/{branch_name(target)}"]
            )
            if _is_branch_name(target)
            else Said(0, "", "")
        )
        tracked = remote.out.split()
        if len(tracked) == 1:
            await self._git.run(where, ["checkout", "--quiet", "--track", "-b", target, tracked[0], "--"])
            return
        await self._git.run(where, ["checkout", "--quiet", "--detach", await self._git.revision(where, target), "--"])

    async def merge(self, call: Call) -> Result:
        where = call.get("repository", ".")
        if call.get("abort"):
            await self._git.run(where, ["merge", "--abort"])
            return Result(
                {"merged": False, "commit": await self._git.revision(where, "HEAD"), "conflicts": []}, "aborted"
            )
        if "branch" not in call.arguments:
            raise ToolFailure("say which branch is to be merged, or abort")
        target = await self._git.revision(where, call["branch"])
        command = ["merge", "--no-edit", "--no-verify-signatures", "--no-gpg-sign", "--no-verify", "--quiet"]
        command += ["--no-ff"] if call.get("no_fast_forward") else []
        command += ["-m", call.get("message") or f"Merge {call['branch']}"]
        said = await self._git.run(where, [*command, target], accept=(0, 1))
        listed = await self._git.run(where, ["diff", "--name-only", "--diff-filter=U", *_DIFF, "-z"])
        conflicts = [path for path in listed.out.split("\0") if path]
        if said.code and not conflicts:
            raise ToolFailure(f"git: {said.err or said.out.strip()}")
        structured = {
            "merged": not said.code,
            "commit": await self._git.revision(where, "HEAD"),
            "conflicts": conflicts,
        }
        text = f"conflicts in {', '.join(conflicts)}: resolve them, git_add and git_commit" if conflicts else "merged"
        return Result(structured, text, failed=bool(conflicts))

    async def stash(self, call: Call) -> Result:
        where, action = call.get("repository", "."), call.get("action", "push")
        entry = [f"stash@{{{call.get('index', 0)}}}"]
        if action == "push":
            command = ["stash", "push", "--quiet", "-m", call.get("message", "stashed")]
            await self._git.run(where, [*command, *(["--include-untracked"] if call.get("untracked") else [])])
        elif action != "list":
            await self._git.run(where, ["stash", action, "--quiet", *entry])
        listed = await self._git.run(where, ["stash", "list", "--format=%gs"])
        stashes = listed.out.splitlines()
        return Result({"stashes": stashes}, "\n".join(stashes) or "(nothing stashed)")

    # -- remotes

    async def clone(self, call: Call) -> Result:
        url = remote_url(call["url"])
        folder = call.get("directory") or posixpath.basename(url.rstrip("/")).removesuffix(".git")
        more = [f"--branch={branch_name(call['branch'])}"] if "branch" in call.arguments else []
        more += [f"--depth={call['depth']}"] if "depth" in call.arguments else []
        await self._git.clone(url, folder, more, _credentials(call, url))
        structured = {"repository": folder, "branch": "", "commit": ""}
        branch = await self._git.run(folder, ["symbolic-ref", "--quiet", "--short", "HEAD"], accept=(0, 1))
        structured["branch"] = branch.out.strip()
        head = await self._git.run(folder, ["rev-parse", "--verify", "--quiet", "HEAD"], accept=(0, 1, 128))
        structured["commit"] = head.out.strip() if not head.code else ""
        return Result(structured, f"cloned into {folder}, on {structured['branch'] or 'no branch'}")

    async def fetch(self, call: Call) -> Result:
        where, remote = call.get("repository", "."), remote_name(call.get("remote", "origin"))
        command = [
            "fetch",
            "--quiet",
            "--no-recurse-submodules",
            "--upload-pack=git-upload-pack",
            "--no-auto-maintenance",
        ]
        command += ["--prune"] if call.get("prune") else []
        wanted = [branch_name(call["branch"])] if "branch" in call.arguments else []
        before = await self._remote_refs(where, remote)
        credentials = _credentials(call, await self._url(where, remote))
        await self._git.run(where, [*command, "--", remote, *wanted], seconds=NETWORK_SECONDS, credentials=credentials)
        after = await self._remote_refs(where, remote)
        updated = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return Result({"remote": remote, "updated": updated}, "\n".join(updated) or "(nothing new)")

    async def push(self, call: Call) -> Result:
        where, remote = call.get("repository", "."), remote_name(call.get("remote", "origin"))
        head = await self._git.run(where, ["symbolic-ref", "--quiet", "--short", "HEAD"], accept=(0, 1))
        branch = branch_name(call.get("branch") or head.out.strip())
        commit = await self._git.revision(where, f"refs/heads/{branch}")
        command = [
            "push",
            "--quiet",
            "--no-verify",
            "--no-recurse-submodules",
            "--receive-pack=git-receive-pack",
            "--no-signed",
        ]
        command += ["--force-with-lease"] if call.get("force") else []
        command += ["--set-upstream"] if call.get("set_upstream") else []
        credentials = _credentials(call, await self._url(where, remote))
        await self._git.run(
            where,
            [*command, "--", remote, f"refs/heads/{branch}:refs/heads/{branch}"],
            seconds=NETWORK_SECONDS,
            credentials=credentials,
        )
        return Result({"remote": remote, "branch": branch, "commit": commit}, f"pushed {branch} to {remote}")

    async def _url(self, where: str, remote: str) -> str:
        said = await self._git.run(where, ["remote", "get-url", "--", remote], accept=(0, 2, 128))
        if said.code:
            raise ToolFailure(f"there is no remote {remote}")
        return remote_url(said.out.strip())

    async def _remote_refs(self, where: str, remote: str) -> dict[str, str]:
        said = await self._git.run(
            where, ["for-each-ref", "--format=%(refname:short) %(objectname)", f"refs/remotes/{remote}"]
        )
        return dict(line.split(" ", 1) for line in said.out.splitlines())

    def _paths(self, call: Call) -> list[str]:
        return self._git.paths(call.get("repository", "."), call.get("paths", []))


def _credentials(call: Call, url: str) -> list[Mapping[str, str]]:
    """Those that the gateway injects, and the caller's own, which hold for this remote."""
    own = call.get("credentials")
    return [*call.credentials, *([{**own, "url": origin(url)}] if own else [])]


def _is_branch_name(name: str) -> bool:
    try:
        branch_name(name)
    except ToolFailure:
        return False
    return True


def _diff(said: Said) -> Result:
    files = [line[6:] for line in said.out.splitlines() if line.startswith(("+++ b/", "--- a/"))]
    structured = {"diff": said.out, "files": sorted(set(files)), "truncated": said.cut}
    return Result(structured, said.out or "(no difference)")


def _branch(line: str) -> dict[str, Any]:
    head, name, commit, upstream = line.split("\0")
    return {
        "name": name.removeprefix("refs/heads/").removeprefix("refs/remotes/"),
        "remote": name.startswith("refs/remotes/"),
        "current": head == "*",
        "commit": commit,
        "upstream": upstream.removeprefix("refs/remotes/"),
    }


def _headline(commit: Mapping[str, Any]) -> str:
    return f"{commit['id']} {commit['author']} {commit['date']}\n{commit['subject']}\n{commit['body']}".rstrip()


def parse_log(out: str) -> list[dict[str, Any]]:
    commits: list[dict[str, Any]] = []
    for record in out.split("\x01"):
        fields = record.lstrip("\n").split("\0")
        if len(fields) < 8:
            continue
        whole, short, author, email, date, parents, subject, body = fields[:8]
        commits.append(
            {
                "id": whole,
                "short": short,
                "author": author,
                "email": email,
                "date": date,
                "parents": parents.split(),
                "subject": subject,
                "body": body.strip(),
            }
        )
    return commits


def parse_status(out: str) -> dict[str, Any]:
    """`git status --porcelain=v2 --branch -z` as the tool gives it."""
    status: dict[str, Any] = {
        "branch": "",
        "status": "clean",
        "commit": "",
        "upstream": "",
        "ahead": 0,
        "behind": 0,
        "staged": [],
        "changed": [],
        "conflicted": [],
        "untracked": [],
    }
    fields = iter(out.split("\0"))
    for field in fields:
        if field.startswith("# branch."):
            _head(status, field[9:])
        elif field.startswith(("1 ", "2 ")):
            parts = field.split(" ", 9 if field[0] == "2" else 8)
            for kind, letter in zip(("staged", "changed"), parts[1], strict=True):
                if letter != ".":
                    status[kind].append({"path": parts[-1], "change": _KINDS.get(letter, letter)})
            if field[0] == "2":
                next(fields)  # where it came from
        elif field.startswith("u "):
            status["conflicted"].append({"path": field.split(" ", 10)[-1], "change": "unmerged"})
        elif field.startswith("? "):
            status["untracked"].append(field[2:])
    if any(status[kind] for kind in ("staged", "changed", "conflicted", "untracked")):
        status["status"] = "dirty"
    return status


def _head(status: dict[str, Any], words: str) -> None:
    name, _, value = words.partition(" ")
    if name == "head":
        status["branch"] = "" if value == "(detached)" else value
    elif name == "oid":
        status["commit"] = "" if value == "(initial)" else value
    elif name == "upstream":
        status["upstream"] = value
    elif name == "ab":
        ahead, behind = value.split()
        status["ahead"], status["behind"] = int(ahead), -int(behind)
