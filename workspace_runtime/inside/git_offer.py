"""The tools that speak git, as they are offered: names, schemas, hints. What they do is `git_tools`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workspace_runtime.inside import tool
from workspace_runtime.inside.git import Git
from workspace_runtime.inside.git_tools import GitTools
from workspace_runtime.inside.tool import Schema, Tool, flag, gives, text, whole

_REPOSITORY = text("A folder in a repository of the workspace; the workspace's root unless said.")
_REVISION = text("A commit, branch or tag.")
_PATHS = tool.array(text("From the repository's folder on."), "Only these.")
_CREDENTIALS = tool.obj(
    {"username": text("Often anything, for a token."), "password": text("Or token.")},
    ("username", "password"),
    "For this call only; never stored.",
)
_CHANGES = tool.array(gives({"path": text("From the repository's root."), "change": text("As modified.")}), "By path.")
_COMMIT = gives(
    {
        "id": text("Whole."),
        "short": text("Shortened."),
        "author": text("Name."),
        "email": text("Address."),
        "date": text("ISO 8601."),
        "parents": tool.array(text("Whole."), "Its parents."),
        "subject": text("First line."),
        "body": text("The rest of the message."),
    }
)
_STATUS = gives(
    {
        "branch": text("Empty if none is checked out."),
        "status": text("Whether there is anything uncommitted.", enum=["clean", "dirty"]),
        "commit": text("Empty if there is none yet."),
        "upstream": text("Empty if there is none."),
        "ahead": whole("Commits that the upstream has not."),
        "behind": whole("Commits that only the upstream has."),
        "staged": _CHANGES,
        "changed": _CHANGES,
        "conflicted": _CHANGES,
        "untracked": tool.array(text("From the repository's root."), "By path."),
    }
)


def _reading(name: str, title: str, description: str, run: Any, input: dict[str, Schema], output: Schema) -> Tool:
    return Tool(name, title, description, run, {"repository": _REPOSITORY, **input}, output, reads_only=True)


def _changing(
    name: str,
    title: str,
    description: str,
    run: Any,
    input: dict[str, Schema],
    output: Schema,
    required: Sequence[str] = (),
    **hints: bool,
) -> Tool:
    return Tool(name, title, description, run, {"repository": _REPOSITORY, **input}, output, tuple(required), **hints)


def git_tools(git: Git) -> list[Tool]:
    tools = GitTools(git)
    return [*_looking(tools), *_working(tools), *_switching(tools), *_remotes(tools)]


def _looking(tools: GitTools) -> list[Tool]:
    diff = gives(
        {"diff": text("Unified."), "files": tool.array(text("Paths."), "In it."), "truncated": flag("It is cut.")}
    )
    return [
        _reading(
            "git_status", "Get git repository status", "Branch, and what is not committed.", tools.status, {}, _STATUS
        ),
        _reading(
            "git_diff",
            "Show differences",
            "Between the index and the files; with `staged`, HEAD and the index; with `from` and `to`, two commits.",
            tools.diff,
            {
                "staged": flag("What is to be committed."),
                "from": _REVISION,
                "to": _REVISION,
                "paths": _PATHS,
                "context": whole("Lines around each change; 3 unless said.", minimum=0, maximum=1000),
            },
            diff,
        ),
        _reading(
            "git_log",
            "List commits",
            "Newest first.",
            tools.log,
            {
                "revision": _REVISION,
                "paths": _PATHS,
                "limit": whole("20 unless said.", minimum=1, maximum=500),
                "skip": whole("So many first.", minimum=0),
            },
            gives({"commits": tool.array(_COMMIT, "Newest first."), "more": flag("There are more.")}),
        ),
        _reading(
            "git_show",
            "Show a commit, or a file in it",
            "A commit with its changes against its first parent; with `path`, the content that a file had.",
            tools.show,
            {"revision": _REVISION, "path": text("Of a file, from the repository's root.")},
            gives(
                {
                    "commit": _COMMIT,
                    "diff": text("Unified."),
                    "content": text("Of the file."),
                    "truncated": flag("It is cut."),
                },
                ("commit", "diff", "content"),
            ),
        ),
    ]


def _working(tools: GitTools) -> list[Tool]:
    branch = gives(
        {
            "name": text("With the remote's before it, for one of a remote."),
            "remote": flag("It is a remote's."),
            "current": flag("It is checked out."),
            "commit": text("Its last."),
            "upstream": text("Empty if there is none."),
        }
    )
    return [
        _changing(
            "git_add",
            "Stage changes",
            "Put paths, or all changes, into the next commit.",
            tools.add,
            {"paths": _PATHS, "all": flag("Everything, also what is new or gone.")},
            _STATUS,
            idempotent=True,
        ),
        _changing(
            "git_commit",
            "Commit",
            "Record what is staged. Hooks are not run.",
            tools.commit,
            {
                "message": text("The first line is its subject."),
                "all": flag("With all changes of files that git knows."),
                "amend": flag("Replace the last commit."),
                "allow_empty": flag("Though nothing has changed."),
            },
            gives(
                {
                    "commit": text("Whole."),
                    "branch": text("Empty if none is checked out."),
                    "subject": text("First line."),
                }
            ),
            ["message"],
        ),
        _changing(
            "git_branch",
            "List or change branches",
            "List branches after creating, renaming or deleting one.",
            tools.branch,
            {
                "action": text("`list` unless said.", enum=["list", "create", "delete", "rename"]),
                "name": text("Of the branch."),
                "new_name": text("For `rename`."),
                "start": _REVISION,
                "force": flag("Delete it though it is not merged."),
            },
            gives({"current": text("Empty if there is none."), "branches": tool.array(branch, "By name.")}),
            destroys=True,
        ),
    ]


def _switching(tools: GitTools) -> list[Tool]:
    return [
        _changing(
            "git_checkout",
            "Check out",
            "A branch (a remote's is made local), a commit, or with `create` a new branch; or restore `paths`.",
            tools.checkout,
            {"target": _REVISION, "create": flag("`target` is a new branch."), "start": _REVISION, "paths": _PATHS},
            _STATUS,
            destroys=True,
        ),
        _changing(
            "git_merge",
            "Merge",
            "Merge a branch or commit into the current branch, or abort a merge.",
            tools.merge,
            {
                "branch": _REVISION,
                "message": text("Of the merge."),
                "no_fast_forward": flag("Make a merge commit in any case."),
                "abort": flag("Give up a merge that has conflicts."),
            },
            gives(
                {
                    "merged": flag("It went through."),
                    "commit": text("That HEAD is at."),
                    "conflicts": tool.array(text("Path."), "Files to be resolved."),
                }
            ),
        ),
        _changing(
            "git_stash",
            "Stash",
            "Put changes aside, or take them up again.",
            tools.stash,
            {
                "action": text("`push` unless said.", enum=["push", "pop", "apply", "drop", "list"]),
                "message": text("What it is."),
                "untracked": flag("New files too."),
                "index": whole("Which; 0 is the last.", minimum=0),
            },
            gives({"stashes": tool.array(text("Its message."), "Last first.")}),
            destroys=True,
        ),
    ]


def _remotes(tools: GitTools) -> list[Tool]:
    remote = text("`origin` unless said.")
    clone: dict[str, Schema] = {
        "url": text("https, http, ssh or file, or an absolute path."),
        "directory": text("Where to; named after the repository unless said."),
        "branch": text("To check out."),
        "depth": whole("So many last commits only.", minimum=1),
        "credentials": _CREDENTIALS,
    }
    cloned = gives({"repository": text("Its folder."), "branch": text("Checked out."), "commit": text("Checked out.")})
    return [
        Tool(
            "git_clone",
            "Clone",
            "Clone a repository into the workspace.",
            tools.clone,
            clone,
            cloned,
            ("url",),
            open_world=True,
        ),
        _changing(
            "git_fetch",
            "Fetch",
            "Get what is new at a remote.",
            tools.fetch,
            {
                "remote": remote,
                "branch": text("Only this."),
                "prune": flag("Forget branches that the remote has no more."),
                "credentials": _CREDENTIALS,
            },
            gives({"remote": text("Its name."), "updated": tool.array(text("Name."), "Branches that have changed.")}),
            open_world=True,
            idempotent=True,
        ),
        _changing(
            "git_push",
            "Push",
            "Send a branch to a remote. Hooks are not run.",
            tools.push,
            {
                "remote": remote,
                "branch": text("The current one unless said."),
                "set_upstream": flag("Follow that branch from now on."),
                "force": flag("Replace what is there, if it is what was last fetched."),
                "credentials": _CREDENTIALS,
            },
            gives(
                {"remote": text("Its name."), "branch": text("That was sent."), "commit": text("That it is at now.")}
            ),
            open_world=True,
            destroys=True,
        ),
    ]
