"""Commands run, are told of while they run, and end with all that they started."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

import pytest

from tests.workspace_runtime.inside.conftest import Tools
from workspace_runtime.inside import ends
from workspace_runtime.inside import shell as shell_module
from workspace_runtime.inside.guard import Guard
from workspace_runtime.inside.limits import used_bytes
from workspace_runtime.inside.processes import MARK, marked
from workspace_runtime.inside.shell import OUTPUT_BYTES, Log
from workspace_runtime.inside.tool import Call


async def test_a_command_runs_in_the_workspace(tools: Tools) -> None:
    (tools.path / "sub").mkdir()
    done = await tools(
        "shell_run", command="pwd -P; echo $WHO; cat; echo bad >&2", cwd="sub", env={"WHO": "me"}, stdin="in"
    )
    assert done["stdout"] == f"{tools.path}/sub\nme\nin"
    assert (done["stderr"], done["exit_code"], done["running"]) == ("bad\n", 0, False)


async def test_a_command_that_fails_says_so(tools: Tools) -> None:
    result = await tools.result("shell_run", Call({"command": "exit 3"}))
    assert (result.failed, result.structured["exit_code"]) == (True, 3)


async def test_output_is_told_while_the_command_runs(tools: Tools) -> None:
    said: list[str] = []
    heard = asyncio.Event()

    def say(progress: float, message: str) -> None:
        said.append(message)
        (tools.path / "go").touch()
        heard.set()

    command = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo second"
    result = await tools.result("shell_run", Call({"command": command, "timeout": 60}, say))
    assert heard.is_set()
    assert said[0] == "first\n"
    assert result.structured["stdout"] == "first\nsecond\n"


async def test_a_command_that_takes_too_long_ends_with_its_children(tools: Tools) -> None:
    command = "(setsid sleep 1000 & echo $! >pid); sleep 1000"
    done = await tools("shell_run", command=command, timeout=1)
    assert done["reason"] == "timeout"
    assert not alive(int((tools.path / "pid").read_text()))


async def test_a_cancelled_command_ends(tools: Tools) -> None:
    running = asyncio.create_task(tools("shell_run", command="echo $$ >pid; touch up; sleep 1000", timeout=600))
    await until((tools.path / "up").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(int((tools.path / "pid").read_text()))


async def test_what_a_command_leaves_running_is_ended(tools: Tools) -> None:
    await tools("shell_run", command="sleep 1000 & echo $! >pid")
    assert not alive(int((tools.path / "pid").read_text()))


async def test_a_background_job_has_logs_and_can_be_ended(tools: Tools) -> None:
    job = (await tools("shell_run", command="echo up; sleep 1000", background=True))["job"]
    logs = await tools("shell_logs", job=job)
    while not logs["output"]:
        logs = await tools("shell_logs", job=job, wait=0)
        await asyncio.sleep(0.01)
    assert (logs["output"], logs["running"], logs["next_offset"]) == ("up\n", True, 3)
    assert (await tools("shell_logs", job=job, offset=3))["output"] == ""
    assert [listed["running"] for listed in (await tools("shell_jobs"))["jobs"]] == [True]
    ended = await tools("shell_kill", job=job)
    assert (ended["running"], ended["reason"]) == (False, "killed")
    assert "no job" in await tools.refused("shell_logs", job="99")


async def test_a_job_is_told_to_end(tools: Tools) -> None:
    command = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    job = (await tools("shell_run", command=command, background=True))["job"]
    while (await tools("shell_logs", job=job))["output"] != "up\n":
        await asyncio.sleep(0.01)
    await tools("shell_kill", job=job, signal="TERM")
    logs = await tools("shell_logs", job=job, offset=3, wait=60)
    assert logs["output"].endswith("bye\n")
    assert logs["exit_code"] == 0


async def test_long_output_keeps_its_beginning_and_its_end(tools: Tools) -> None:
    done = await tools("shell_run", command="echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert done["truncated"] is True
    assert done["stdout"].startswith("begin\n")
    assert done["stdout"].endswith("\nend\n")
    assert len(done["stdout"]) < OUTPUT_BYTES + 100


def test_a_log_forgets_its_beginning_and_knows_how_much() -> None:
    log = Log()
    for _ in range(30):
        log.add(b"x" * 100_000)
    begin, data = log.since(0)
    assert begin == log.start == 3_000_000 - shell_module.LOG_BYTES
    assert len(data) == OUTPUT_BYTES
    assert log.since(10**9) == (3_000_000, b"")


async def test_an_environment_that_cannot_be_is_refused(tools: Tools) -> None:
    assert "environment" in await tools.refused("shell_run", command="true", env={"A=B": "c"})
    assert "zero byte" in await tools.refused("shell_run", command="echo \0")
    assert "outside" in await tools.refused("shell_run", command="true", cwd="..")


# -- the guard


async def test_commands_are_ended_at_the_process_limit(tools: Tools) -> None:
    used = (10, 100)
    guard = Guard(str(tools.path), tools.shell, 0, pids=lambda: used)
    running = asyncio.create_task(tools("shell_run", command="touch up; sleep 1000"))
    await until((tools.path / "up").exists)
    await guard.look()
    assert not running.done()
    used = (90, 100)
    await guard.look()
    assert (await running)["reason"] == "process limit"


async def test_the_guard_outlives_what_it_does_not_expect(tools: Tools) -> None:
    """Nobody else looks after what it looks after."""
    told: list[BaseException] = []
    looked = asyncio.Event()

    def pids() -> tuple[int, int] | None:
        if told:
            looked.set()
            return None
        raise ValueError("a line that is no number")

    guarding = asyncio.create_task(Guard(str(tools.path), tools.shell, 0, pids=pids, unexpected=told.append).run())
    async with asyncio.timeout(60):
        await looked.wait()
    assert [str(error) for error in told] == ["a line that is no number"]
    guarding.cancel()


@pytest.mark.parametrize(
    ("count", "reason"), [("out_of_memory_kills", ends.MEMORY), ("denied_processes", ends.PROCESSES)]
)
async def test_only_a_command_that_failed_was_ended(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, count: str, reason: str
) -> None:
    """What the kernel counts may have happened to another one beside it."""
    counted = iter(range(100))
    monkeypatch.setattr(ends, count, lambda: next(counted))
    assert "reason" not in await tools("shell_run", command="true")
    assert (await tools("shell_run", command="exit 1"))["reason"] == reason


@pytest.mark.parametrize("reason", [ends.MEMORY, ends.PROCESSES, ends.DISK])
def test_a_reason_is_read_as_it_was_told(reason: str) -> None:
    assert ends.reason_in(f"it said{ends.told(reason)}\n") == reason
    assert ends.reason_in(f"{ends.told(reason)}\nand more") is None
    assert ends.told("timeout") == "[ended: timeout]"
    assert ends.reason_in(ends.told("timeout")) is None


async def test_why_a_command_was_ended_is_its_last_word(tmp_path: Path) -> None:
    """What it has started may have more to say, and holds the same pipe."""
    socket = tmp_path / "mcp.sock"
    command = f"yes more >&2 & printf %s '{ends.PROCESSES}' >{socket}.ended; kill -KILL $$"
    attended = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from workspace_runtime.inside.attend import main; main()", "free"),
        *("bash", "-c", command),
        env={**os.environ, "GATEHOUSE_SOCKET": str(socket), MARK: secrets.token_hex(8)},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, said = await attended.communicate()
    assert (attended.returncode, ends.reason_in(said[-10_000:].decode())) == (137, ends.PROCESSES), said[-1000:]


async def test_commands_that_fill_the_volume_are_ended(tools: Tools) -> None:
    guard = Guard(str(tools.path), tools.shell, 1_000_000)
    await guard.measure()
    command = "head -c 2000000 /dev/zero >big; sleep 1000"
    running = asyncio.create_task(tools("shell_run", command=command))
    await until(lambda: (tools.path / "big").exists() and (tools.path / "big").stat().st_size == 2_000_000)
    await guard.measure()
    assert (await running)["reason"] == "disk quota"
    assert guard.full
    # What makes room may run.
    removing = asyncio.create_task(tools("shell_run", command="touch up; while [ -e up ]; do sleep 0.05; done; rm big"))
    await until((tools.path / "up").exists)
    await guard.measure()
    (tools.path / "up").unlink()
    assert (await removing)["exit_code"] == 0
    await guard.measure()
    assert not guard.full


def test_what_is_hidden_is_measured(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "f").write_bytes(b"x" * 1_000_000)
    os.link(closed / "f", closed / "again")
    closed.chmod(0)
    before = used_bytes(str(tmp_path))
    assert 1_000_000 <= before < 1_200_000
    with (tmp_path / "deleted").open("wb") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        (tmp_path / "deleted").unlink()
        assert used_bytes(str(tmp_path)) >= before + 1_000_000
    assert used_bytes(str(tmp_path)) <= before


def test_processes_are_found_by_their_mark() -> None:
    assert marked("no such mark", -1) == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
