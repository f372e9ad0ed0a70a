"""The process that a workspace's container runs: the MCP server, the guard, and the proxy for what may leave.

Everything it is told comes by its environment: `GATEHOUSE_ROOT`, `GATEHOUSE_SOCKET`, `GATEHOUSE_QUOTA` (bytes; 0 where
the engine enforces it), `GATEHOUSE_PROXY` (a socket for the gateway's lines; unset where nothing may leave).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

from workspace_runtime.inside import http, proxy
from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.file_offer import file_tools
from workspace_runtime.inside.files import Files
from workspace_runtime.inside.git import Git
from workspace_runtime.inside.git_offer import git_tools
from workspace_runtime.inside.guard import Guard
from workspace_runtime.inside.http import Door
from workspace_runtime.inside.protocol import Server
from workspace_runtime.inside.proxy import Proxy
from workspace_runtime.inside.search import Search
from workspace_runtime.inside.shell import Shell
from workspace_runtime.inside.shell_offer import shell_tools
from workspace_runtime.inside.tool import Tool

THREADS = 8
_OWN = ("GATEHOUSE_ROOT", "GATEHOUSE_SOCKET", "GATEHOUSE_QUOTA", "GATEHOUSE_PROXY")


def say(words: str) -> None:
    """To the container's log."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def unexpected(error: BaseException) -> None:
    say("".join(traceback.format_exception(error)))


def all_tools(root: Beneath, git: Git, shell: Shell) -> list[Tool]:
    return [*file_tools(Files(root)), *Search.with_what_is_there(root).tools(), *git_tools(git), *shell_tools(shell)]


def _threads() -> ThreadPoolExecutor:
    """Threads that are there already when commands have used up all that the container may have."""
    pool = ThreadPoolExecutor(THREADS)
    barrier = [pool.submit(os.sched_yield) for _ in range(THREADS)]
    for started in barrier:
        started.result()
    return pool


async def serve(root_path: str, socket: str, quota: int, proxy_socket: str | None) -> None:
    """Serve until the process is told to end."""
    env = {name: value for name, value in os.environ.items() if name not in _OWN}
    root = Beneath(root_path)
    git, shell = Git(root, env), Shell(root, env)
    threads = _threads()
    asyncio.get_running_loop().set_default_executor(threads)
    await git.begin()
    guard = Guard(root.path, shell, quota, unexpected=unexpected)
    if quota:
        await guard.measure()
    door = Door(Server(all_tools(root, git, shell), threads, unexpected))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        if proxy_socket:
            way_out = Proxy()
            inner = await asyncio.start_server(way_out.serve, "127.0.0.1", proxy.PORT, limit=proxy.HEAD_BYTES)
            await stack.enter_async_context(inner)
            await stack.enter_async_context(await _listen(proxy_socket, way_out.offer))
        looking = asyncio.create_task(guard.run())
        stack.callback(looking.cancel)
        await stack.enter_async_context(await _listen(socket, door.serve))
        say(f"serving {root.path}")
        await ended.wait()
        await shell.close()
        say("ended")
        os._exit(0)  # open connections and threads are not waited for


async def _listen(path: str, serve: object) -> asyncio.Server:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a run before
    return await asyncio.start_unix_server(serve, path, limit=http.HEAD_BYTES, backlog=256)  # pyright: ignore[reportArgumentType]


def main() -> None:
    if sys.version_info < (3, 12):
        # By default each child takes a thread to wait for it, and one that forks without end leaves none.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # pyright: ignore[reportDeprecated]
    env = os.environ
    asyncio.run(
        serve(
            env.get("GATEHOUSE_ROOT", "/workspace"),
            env.get("GATEHOUSE_SOCKET", "/run/gatehouse/mcp.sock"),
            int(env.get("GATEHOUSE_QUOTA", "0")),
            env.get("GATEHOUSE_PROXY"),
        )
    )


if __name__ == "__main__":
    main()
