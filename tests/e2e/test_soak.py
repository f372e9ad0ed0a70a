"""Ten minutes of everything that clients do, as fast as the gateway answers: nothing goes wrong, and nothing grows."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.machine import pss_mib
from bench.programs import Upstream, build
from tests.support.gateway import RunningGateway

CYCLES = 10
SECONDS = 10
LOADS: dict[str, list[str]] = {
    "calls": ["--mode", "call", "--tool", "up__echo"],
    "modern calls": ["--mode", "call", "--tool", "up__echo", "--era", "modern"],
    "sessions": ["--mode", "setup"],
    "progress": ["--mode", "call", "--tool", "up__progress", "--expect-progress", "5"],
    "lists": ["--mode", "list", "--path", "/servers/up/mcp", "--expect-tools", "3"],
    "large calls": ["--mode", "call", "--tool", "up__echo", "--size", "100000"],
}
SETTLED = 5
"""Cycles after which whatever fills is full: pools, caches, the database's pages, what is kept for some minutes."""
GROWTH_MIB = 8.0


@pytest.fixture
def upstream(tmp_path: Path, gcc: Path) -> Iterator[Upstream]:
    server = Upstream(build()["upstream"], 0, tmp_path)
    yield server
    server.stop()


@pytest.mark.long
def test_ten_minutes_leave_nothing_behind(tmp_path: Path, upstream: Upstream) -> None:
    seen: list[tuple[float, int]] = []
    with RunningGateway(tmp_path / "data") as gateway:
        server = {"name": "up", "base_url": f"http://127.0.0.1:{upstream.port}/mcp"}
        assert gateway.rest("POST", "/v1/mcp/servers", server).status == 201
        for cycle in range(CYCLES):
            rates = {name: load(gateway, options) for name, options in LOADS.items()}
            seen.append((pss_mib(gateway.pid), len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))))
            print(
                f"{cycle}: {seen[-1][0]:.1f} MiB, {seen[-1][1]} files;", *(f"{n} {r:.0f}/s" for n, r in rates.items())
            )
    # Some hundred thousand calls are on record there.
    shutil.rmtree(tmp_path / "data")
    settled, after = seen[SETTLED - 1], seen[SETTLED:]
    assert max(memory for memory, _ in after) < settled[0] + GROWTH_MIB, seen
    assert max(files for _, files in after) <= settled[1] + 4, seen


def load(gateway: RunningGateway, options: list[str]) -> float:
    """What one load came to, in operations a second; all of them were answered rightly."""
    common = ["--port", str(gateway.port), "--path", "/mcp", "--connections", "16", "--warmup", "0"]
    common += ["--seconds", str(SECONDS), "--header", f"Authorization: Bearer {gateway.agent_key}"]
    done = subprocess.run(
        [str(build()["loadgen"]), *common, *options], capture_output=True, text=True, timeout=SECONDS + 60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["errors"] == 0, (options, figures)
    return figures["rps"]
