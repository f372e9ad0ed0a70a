"""Git through the tools: what they give, and that neither arguments nor repositories make them run anything."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.workspace_runtime.inside.conftest import Tools
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.git import branch_name, origin, remote_url
from workspace_runtime.inside.tool import Call


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture
async def begun(tools: Tools) -> Tools:
    await tools.git.begin()
    return tools


async def commit(tools: Tools, name: str = "a.txt", content: str = "a\n", **where: Any) -> str:
    prefix = f"{where['repository']}/" if where else ""
    await tools("write_file", path=f"{prefix}{name}", content=content)
    await tools("git_add", all=True, **where)
    return (await tools("git_commit", message=f"Add {name}\n\nBecause.", **where))["commit"]


async def test_a_workspace_begins_as_a_clean_repository_on_main(begun: Tools) -> None:
    status = await begun("git_status")
    assert (status["branch"], status["status"], status["commit"]) == ("main", "clean", "")
    assert (await begun("git_log"))["commits"] == []


async def test_a_folder_that_holds_something_is_left_alone(tools: Tools) -> None:
    (tools.path / "x").write_text("x")
    await tools.git.begin()
    assert not (tools.path / ".git").exists()
    assert "no git repository" in await tools.refused("git_status")


async def test_status_tells_what_is_not_committed(begun: Tools) -> None:
    await commit(begun, "kept.txt")
    await commit(begun, "ä b.txt")
    await begun("write_file", path="ä b.txt", content="changed\n")
    await begun("write_file", path="new\nline.txt", content="new\n")
    await begun("write_file", path="staged.txt", content="x\n")
    await begun("git_add", paths=["staged.txt"])
    status = await begun("git_status")
    assert status["status"] == "dirty"
    assert status["changed"] == [{"path": "ä b.txt", "change": "modified"}]
    assert status["staged"] == [{"path": "staged.txt", "change": "added"}]
    assert status["untracked"] == ["new\nline.txt"]


async def test_commits_are_logged_shown_and_compared(begun: Tools) -> None:
    first = await commit(begun, "a.txt", "one\n")
    second = await commit(begun, "a.txt", "two\n")
    log = await begun("git_log", limit=1)
    assert (log["commits"][0]["id"], log["commits"][0]["subject"], log["more"]) == (second, "Add a.txt", True)
    assert log["commits"][0]["body"] == "Because."
    assert log["commits"][0]["parents"] == [first]
    shown = await begun("git_show", revision="HEAD~1")
    assert (shown["commit"]["id"], "+one" in shown["diff"]) == (first, True)
    assert (await begun("git_show", revision=first, path="a.txt"))["content"] == "one\n"
    diff = await begun("git_diff", **{"from": first, "to": "HEAD"})
    assert (diff["files"], "-one\n+two" in diff["diff"]) == (["a.txt"], True)
    await begun("write_file", path="a.txt", content="three\n")
    assert "+three" in (await begun("git_diff"))["diff"]
    assert (await begun("git_diff", staged=True))["diff"] == ""


async def test_nothing_to_commit_is_said(begun: Tools) -> None:
    assert "nothing to commit" in await begun.refused("git_commit", message="x")
    await commit(begun)
    assert "nothing to commit" in await begun.refused("git_commit", message="x")
    assert "empty" in await begun.refused("git_commit", message="  ")
    assert (await begun("git_commit", message="empty", allow_empty=True))["branch"] == "main"


async def test_branches_are_made_merged_and_deleted(begun: Tools) -> None:
    await commit(begun)
    assert (await begun("git_checkout", target="work/new", create=True))["branch"] == "work/new"
    await commit(begun, "b.txt")
    assert (await begun("git_checkout", target="main"))["branch"] == "main"
    assert "not fully merged" in await begun.refused("git_branch", action="delete", name="work/new")
    merged = await begun("git_merge", branch="work/new", no_fast_forward=True)
    assert (merged["merged"], merged["conflicts"]) == (True, [])
    listed = await begun("git_branch", action="delete", name="work/new")
    assert [branch["name"] for branch in listed["branches"]] == ["main"]
    detached = await begun("git_checkout", target="HEAD~1")
    assert detached["branch"] == ""


async def test_a_conflict_is_told_and_can_be_given_up(begun: Tools) -> None:
    await commit(begun)
    await begun("git_checkout", target="other", create=True)
    await commit(begun, content="theirs\n")
    await begun("git_checkout", target="main")
    await commit(begun, content="ours\n")
    result = await begun.result("git_merge", Call({"branch": "other"}))
    assert (result.failed, result.structured["conflicts"]) == (True, ["a.txt"])
    assert (await begun("git_status"))["conflicted"] == [{"path": "a.txt", "change": "unmerged"}]
    await begun("git_merge", abort=True)
    assert (await begun("git_status"))["status"] == "clean"


async def test_changes_are_stashed_and_taken_up(begun: Tools) -> None:
    await commit(begun)
    await begun("write_file", path="a.txt", content="changed\n")
    await begun("write_file", path="new.txt", content="new\n")
    assert len((await begun("git_stash", message="half", untracked=True))["stashes"]) == 1
    assert (await begun("git_status"))["status"] == "clean"
    assert (await begun("git_stash", action="pop"))["stashes"] == []
    assert (await begun("git_status"))["status"] == "dirty"
    await begun("git_checkout", paths=["a.txt"])
    assert (begun.path / "a.txt").read_text() == "a\n"


async def test_a_bare_repository_is_cloned_changed_pushed_and_fetched(tools: Tools, tmp_path: Path) -> None:
    bare = tmp_path / "up.git"
    git(tmp_path, "init", "--bare", str(bare))
    git(tmp_path, "clone", str(bare), "seed")
    (tmp_path / "seed" / "f").write_text("1\n")
    git(tmp_path / "seed", "add", "f")
    git(tmp_path / "seed", "commit", "-m", "first")
    git(tmp_path / "seed", "push", "origin", "HEAD:main", "HEAD:side")
    cloned = await tools("git_clone", url=str(bare), directory="project")
    assert (cloned["repository"], cloned["branch"]) == ("project", "main")
    made = await commit(tools, "g", repository="project")
    pushed = await tools("git_push", repository="project")
    assert (pushed["branch"], pushed["commit"]) == ("main", made)
    assert git(bare, "rev-parse", "main").strip() == made
    assert (await tools("git_checkout", repository="project", target="side"))["upstream"] == "origin/side"
    git(tmp_path / "seed", "push", "origin", "HEAD:late")
    assert (await tools("git_fetch", repository="project"))["updated"] == ["origin/late"]


async def test_a_credential_reaches_its_origin_and_nothing_else(begun: Tools, tmp_path: Path) -> None:
    """Git is asked for it the way a transport asks, and it is on no disk and in no argument."""
    await commit(begun)
    git(begun.path, "config", "credential.helper", f"store --file={tmp_path}/stored")
    secret = {"url": "https://example.org/x.git", "username": "bot", "password": "pa55"}
    for url, expected in (("https://example.org/y.git", True), ("https://example.com/y.git", False)):
        said = await begun.git.run(
            ".", ["credential", "fill"], accept=(0, 128), credentials=[secret], stdin=f"url={url}\n\n".encode()
        )
        assert ("password=pa55" in said.out) is expected
    await begun.git.run(
        ".",
        ["credential", "approve"],
        credentials=[secret],
        stdin=b"url=https://bot:pa55@example.org/x.git\n\n",
    )
    assert not (tmp_path / "stored").exists()
    assert not [path for path in begun.path.rglob("*") if path.is_file() and b"pa55" in path.read_bytes()]


# -- arguments


@pytest.mark.parametrize("name", ["--output=m", "-x", "a..b", "a b", "@{1}", "", "x.lock", "/a", "a~1", "HEAD", "a\nb"])
def test_what_is_no_branch_name_is_refused(name: str) -> None:
    with pytest.raises(ToolFailure):
        branch_name(name)


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch m",
        "ext::sh -c touch% m",
        "git://example.org/x",
        "https://u:p@example.org/x",
        "ftp://example.org/x",
        "ssh://-oProxyCommand=touch/x",
        "relative/path",
        "a b",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ToolFailure):
        remote_url(url)


def test_credentials_go_by_https_only() -> None:
    assert origin("https://bot@example.org:8443/x.git") == "https://example.org:8443"
    for url in ("http://example.org/x", "ssh://example.org/x", "/path"):
        with pytest.raises(ToolFailure):
            origin(url)


async def test_arguments_are_never_options(begun: Tools) -> None:
    await commit(begun)
    marker = begun.path.parent / "marker"
    evil = f"--output={marker}"
    for name, arguments in (
        ("git_diff", {"from": evil}),
        ("git_log", {"revision": evil}),
        ("git_show", {"revision": evil}),
        ("git_show", {"path": "../../x"}),
        ("git_checkout", {"target": evil}),
        ("git_checkout", {"target": evil, "create": True}),
        ("git_merge", {"branch": evil}),
        ("git_branch", {"action": "create", "name": evil}),
        ("git_push", {"remote": evil}),
        ("git_fetch", {"branch": evil}),
        ("git_clone", {"url": f"--upload-pack=touch {marker};"}),
        ("git_clone", {"url": "/x", "directory": "../out"}),
        ("git_add", {"paths": ["../outside"]}),
        ("git_status", {"repository": ".."}),
    ):
        await begun.refused(name, **arguments)
    assert not marker.exists()
    await begun("write_file", path="--all", content="x")
    assert (await begun("git_add", paths=["--all"]))["staged"] == [{"path": "--all", "change": "added"}]


# -- repositories


@pytest.fixture
async def hostile(begun: Tools) -> tuple[Tools, Path]:
    """A repository whose configuration and attributes name a program wherever git would run one."""
    await commit(begun)
    marker = begun.path.parent / "marker"
    touch = begun.path.parent / "touch.sh"
    touch.write_text(f'#!/bin/sh\necho "$0 $*" >>{marker}\ncat\n')
    touch.chmod(0o755)
    for name in (
        "pre-commit",
        "commit-msg",
        "post-checkout",
        "post-commit",
        "post-merge",
        "pre-push",
        "reference-transaction",
    ):
        hook = begun.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(touch.read_text())
        hook.chmod(0o755)
    for name, value in {
        "core.fsmonitor": str(touch),
        "core.sshCommand": str(touch),
        "core.pager": str(touch),
        "core.editor": str(touch),
        "diff.external": str(touch),
        "diff.evil.command": str(touch),
        "diff.evil.textconv": str(touch),
        "filter.evil.clean": str(touch),
        "filter.evil.smudge": str(touch),
        "filter.evil.process": str(touch),
        "filter.evil.required": "true",
        "merge.evil.driver": f"{touch} %A",
        "gpg.program": str(touch),
        "commit.gpgSign": "true",
        "protocol.ext.allow": "always",
        "credential.helper": str(touch),
        "credential.https://example.org.helper": str(touch),
        "remote.evil.url": f"ext::{touch}",
        "remote.local.url": str(begun.path),
        "remote.local.uploadpack": str(touch),
        "remote.local.receivepack": str(touch),
        "remote.origin.url": "ssh://example.invalid/x",
    }.items():
        git(begun.path, "config", name, value)
    (begun.path / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    return begun, marker


async def test_a_hostile_repository_runs_nothing(hostile: tuple[Tools, Path]) -> None:
    tools, marker = hostile
    await tools("git_status")
    await tools("git_add", all=True)
    await tools("git_commit", message="with filters")
    await tools("git_checkout", target="other", create=True)
    await commit(tools, "b.txt")
    await tools("git_checkout", target="main")
    await commit(tools, "b.txt", "else\n")
    await tools("git_diff", **{"from": "HEAD~1", "to": "HEAD"})
    await tools("git_show")
    await tools("git_log")
    await tools.result("git_merge", Call({"branch": "other"}))
    await tools("git_merge", abort=True)
    await tools("write_file", path="a.txt", content="z\n")
    await tools("git_stash")
    await tools("git_stash", action="pop")
    await tools.refused("git_fetch", remote="evil")
    await tools("git_fetch", remote="local")
    await tools.result("git_push", Call({"remote": "local", "branch": "other"}))
    await tools.refused("git_fetch", remote="origin")
    assert not marker.exists(), marker.read_text()


async def test_a_repository_that_places_itself_outside_is_refused(begun: Tools) -> None:
    outside = begun.path.parent
    git(begun.path, "config", "core.worktree", str(outside))
    assert "outside" in await begun.refused("git_status")
    git(begun.path, "config", "--unset", "core.worktree")
    git(outside, "init", "elsewhere")
    (begun.path / "sub").mkdir()
    (begun.path / "sub" / ".git").write_text(f"gitdir: {outside}/elsewhere/.git\n")
    assert "outside" in await begun.refused("git_status", repository="sub")


async def test_a_configuration_that_changes_under_way_is_refused(begun: Tools) -> None:
    git(begun.path, "config", "includeIf.onbranch:x.path", "/dev/null")
    assert "conditional" in await begun.refused("git_status")


async def test_submodules_are_not_followed(tools: Tools, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    git(tmp_path, "init", "bad")
    (tmp_path / "bad" / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = ext::touch% {marker}\n')
    git(tmp_path / "bad", "add", ".")
    git(tmp_path / "bad", "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},s")
    git(tmp_path / "bad", "commit", "-m", "x")
    await tools("git_clone", url=str(tmp_path / "bad"))
    await tools("git_status", repository="bad")
    await tools("git_fetch", repository="bad")
    assert not marker.exists()
