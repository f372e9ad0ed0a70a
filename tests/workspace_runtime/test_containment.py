"""What a container can do to others: nothing. Tried from inside, on a real engine."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.components.engine import DockerEngine
from tests.workspace_runtime.conftest import SMALL, Bench, docker_bench
from workspace_runtime.runtime import Container, ImageMissing, SpecRefused, StartFailed

HOG = "python3 -c 'x = bytearray(300 * 1024**2); x[::4096] = b\"x\" * len(x[::4096])'"
BOMB = "f() { f | f & }; f; sleep 1000"
FILLER = "i=0; while :; do i=$((i+1)); head -c 4000000 /dev/zero >fill$i; sleep 0.2; done"


async def ran(bench: Bench, container: Container, command: str, timeout: int = 60) -> dict[str, Any]:
    result = await bench.call(container, "shell_run", command=command, timeout=timeout)
    return result["structuredContent"]


async def test_it_has_no_rights_and_no_network(docker: Bench) -> None:
    container = await docker.start()
    code, said = await docker.run(container, "sh", "-c", "id -u; cat /proc/self/status; ls /sys/class/net")
    assert code == 0
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert said.splitlines()[0] == "10001"
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert said.splitlines()[-1] == "lo"


@pytest.mark.parametrize(
    "command",
    [
        "touch /etc/x",
        "touch /opt/gatehouse/x",
        'python3 -c \'import ctypes; exit(ctypes.CDLL(None).mount(0, b"/mnt", b"tmpfs", 0, 0))\'',
        "mknod /tmp/sda b 8 0",
        "unshare --user --map-root-user true",
        "unshare --mount true",
        "nsenter --target 1 --mount true",
        "chroot / true",
        "echo 1 >/proc/sys/kernel/panic",
        "echo x >/proc/sysrq-trigger",
        "echo 0 >/sys/fs/cgroup/memory/memory.limit_in_bytes || echo max >/sys/fs/cgroup/memory.max",
        "ls /var/run/docker.sock",
        "su -c true",
        "dmesg || cat /dev/kmsg",
    ],
)
async def test_what_would_lead_out_fails(escapist: tuple[Bench, Container], command: str) -> None:
    bench, container = escapist
    code, said = await bench.run(container, "sh", "-c", f"({command}) 2>&1")
    assert code != 0, said
    assert (await bench.call(container, "git_status"))["structuredContent"]["branch"] == "main"


@pytest.fixture(scope="module")
def escapist(docker_engine: DockerEngine, image: str) -> Iterator[tuple[Bench, Container]]:
    """One container for all attempts, on a loop of its own for as long as they last."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[Any, Bench, Container]:
        manager = docker_bench(docker_engine.host)
        bench = await manager.__aenter__()
        return manager, bench, await bench.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(120)

    manager, bench, container = run(begin())

    class Elsewhere:
        """The bench, from a test's loop."""

        async def run(self, *arguments: Any) -> Any:
            return await asyncio.to_thread(run, bench.run(*arguments))

        async def call(self, *arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(run, bench.call(*arguments, **named))

    try:
        yield Elsewhere(), container  # type: ignore[misc]
    finally:
        run(manager.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_it_reaches_neither_host_nor_metadata_nor_sibling(docker: Bench, docker_engine: DockerEngine) -> None:
    """A service on every address of the host is there to be reached, and is not."""
    host = socket.create_server(("0.0.0.0", 0))
    port = host.getsockname()[1]
    sibling, container = await asyncio.gather(docker.start("sibling"), docker.start())
    _, name = await docker.run(sibling, "hostname", "-i")
    addresses = [docker_engine.address, "172.17.0.1", "198.19.0.1", "169.254.169.254", "127.0.0.1", "8.8.8.8"]
    addresses += [word for word in name.split() if word[0].isdigit()]
    addresses += [found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    code = (
        "import socket, sys, json\nreached = []\n"
        f"for address in {sorted(set(addresses))}:\n"
        f"    for port in ({port}, 80, 2375, 5432, 6379):\n"
        "        try:\n"
        "            socket.create_connection((address, port), timeout=2).close()\n"
        "            reached.append([address, port])\n"
        "        except OSError:\n"
        "            pass\n"
        "print(json.dumps(reached))"
    )
    try:
        _, said = await docker.run(container, "python3", "-c", code)
    finally:
        host.close()
    assert json.loads(said) == []


async def test_a_fork_bomb_is_ended_and_told_of(docker: Bench) -> None:
    neighbour, container = await asyncio.gather(docker.start("neighbour"), docker.start())
    assert (await ran(docker, container, BOMB))["reason"] == "process limit"
    assert (await ran(docker, container, "echo well"))["stdout"] == "well\n"
    assert (await ran(docker, neighbour, "echo well"))["stdout"] == "well\n"


async def test_a_memory_hog_is_ended_and_told_of(docker: Bench) -> None:
    container = await docker.start()
    hog = await ran(docker, container, HOG)
    assert hog["reason"] == "memory limit"
    assert (await ran(docker, container, "echo well"))["stdout"] == "well\n"


async def test_a_disk_filler_is_ended_and_told_of(docker: Bench) -> None:
    container = await docker.start()
    filled = await ran(docker, container, FILLER)
    assert filled["reason"] == "disk quota"
    assert await docker.runtime.volume_bytes(container.id) < 2 * SMALL.disk_bytes
    large = await ran(docker, container, "rm fill*; head -c 100000000 /dev/zero >large; echo $?")
    assert large["stdout"].strip() != "0"
    assert (await docker.runtime.volume_bytes(container.id)) <= SMALL.disk_bytes * 1.1
    memory = await ran(docker, container, "rm -f large; head -c 100000000 /dev/zero >/tmp/large; echo $?")
    assert "No space left" in memory["stderr"] or memory.get("reason") == "memory limit"


async def test_open_files_are_limited(docker: Bench) -> None:
    container = await docker.start()
    assert (await ran(docker, container, "ulimit -Hn; ulimit -Hc"))["stdout"] == f"{SMALL.open_files}\n0\n"


async def test_what_the_engine_does_not_have_is_named(docker: Bench, docker_engine: DockerEngine) -> None:
    with pytest.raises(ImageMissing, match="nothing/of-this:name"):
        await docker.create(image="nothing/of-this:name")
    with pytest.raises(ImageMissing, match="cannot be pulled"):
        await docker.runtime.build_image("never:made", "127.0.0.1:1/nothing/of-this:name")
    async with docker_bench(docker_engine.host, engine_runtime="unheard-of") as bench:
        with pytest.raises((SpecRefused, StartFailed)):
            await bench.start()


async def test_another_image_gets_our_server_by_a_volume(docker: Bench, docker_base_image: str) -> None:
    container = await docker.start(image=docker_base_image)
    assert (await docker.call(container, "git_status"))["structuredContent"]["branch"] == "main"
    await docker.run(container, "sh", "-c", "kill -9 1")  # which the first process does not hear
    code, _ = await docker.run(container, "touch", "/opt/gatehouse/x")
    assert code != 0
