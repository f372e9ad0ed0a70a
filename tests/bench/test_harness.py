"""The benchmark's own tests: the two C programs against each other, and the runner's pieces that need no gateway.

What matters most is that a wrong answer is never counted as a right one. No figure is asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import catalog, scenarios, targets
from bench.client import McpClient
from bench.errors import BenchError
from bench.machine import Cores, cpu_seconds, pss_mib, tree
from bench.programs import Upstream, build
from bench.report import Report
from bench.runner import Runner

StartUpstream = Callable[..., Upstream]
ERAS = ["legacy", "modern"]


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    return build()


@pytest.fixture
def core() -> int:
    return min(os.sched_getaffinity(0))


@pytest.fixture
def start_upstream(programs: dict[str, Path], core: int, tmp_path: Path) -> Iterator[StartUpstream]:
    running: list[Upstream] = []

    def start(lie: str = "") -> Upstream:
        running.append(Upstream(programs["upstream"], core, tmp_path, lie))
        return running[-1]

    yield start
    for upstream in running:
        upstream.stop()


def load(programs: dict[str, Path], port: int, *options: str) -> dict[str, Any]:
    command = [
        str(programs["loadgen"]),
        "--port",
        str(port),
        "--warmup",
        "0.05",
        "--seconds",
        "0.3",
        "--connections",
        "4",
        *options,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    phases = [json.loads(line) for line in done.stdout.splitlines()]
    assert phases[:2] == [{"phase": "measure"}, {"phase": "end"}]
    return phases[2]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "options",
    [
        ["--mode", "call"],
        ["--mode", "call", "--size", "300000"],
        ["--mode", "call", "--tool", "slow"],
        ["--mode", "call", "--tool", "progress", "--expect-progress", "5"],
        ["--mode", "list", "--expect-tools", "3"],
        ["--mode", "list", "--path", "/u/7/40/mcp", "--expect-tools", "40"],
        ["--mode", "call", "--path", "/u/7/40/mcp", "--tool", "t39"],
    ],
    ids=lambda options: " ".join(options[1:]),
)
def test_right_answers_pass(
    programs: dict[str, Path], start_upstream: StartUpstream, era: str, options: list[str]
) -> None:
    upstream = start_upstream()
    figures = load(programs, upstream.port, "--era", era, *options)
    assert (figures["errors"], figures["error_samples"]) == (0, [])
    assert 0 < figures["ok"] <= figures["total"]
    counted = upstream.counters()
    assert counted["tools_list" if options[1] == "list" else "tools_call"] == figures["total"]
    assert counted["refused"] == 0
    assert counted["initialize"] == counted["initialized"] == (4 if era == "legacy" else 0)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("lie", "options", "noticed"),
    [
        ("payload", ["--mode", "call"], "a changed payload"),
        ("payload", ["--mode", "call", "--size", "300000"], "a changed payload"),
        ("error", ["--mode", "call"], "isError"),
        ("progress", ["--mode", "call", "--tool", "progress", "--expect-progress", "5"], "progress out of order"),
        ("list", ["--mode", "list", "--expect-tools", "3"], "another number of tools"),
        ("list", ["--mode", "list", "--path", "/u/1/9/mcp", "--expect-tools", "9"], "another number of tools"),
        ("id", ["--mode", "call"], "another id"),
        ("id", ["--mode", "list"], "another id"),
    ],
    ids=str,
)
def test_a_lying_upstream_is_noticed(
    programs: dict[str, Path], start_upstream: StartUpstream, era: str, lie: str, options: list[str], noticed: str
) -> None:
    figures = load(programs, start_upstream(lie).port, "--era", era, *options)
    assert figures["ok"] == figures["total"] == 0
    assert figures["errors"] > 0
    assert all(sample.startswith(noticed) for sample in figures["error_samples"])


def test_missing_progress_is_noticed(programs: dict[str, Path], start_upstream: StartUpstream) -> None:
    figures = load(programs, start_upstream().port, "--mode", "call", "--tool", "echo", "--expect-progress", "5")
    assert figures["ok"] == 0
    assert figures["error_samples"][0].startswith("missing progress notifications")


def test_nobody_listening_is_an_error(programs: dict[str, Path]) -> None:
    figures = load(programs, targets.free_port(), "--mode", "call")
    assert figures["ok"] == 0
    assert figures["error_samples"][0].startswith("cannot connect")


def test_sessions_open_and_end(programs: dict[str, Path], start_upstream: StartUpstream) -> None:
    upstream = start_upstream()
    figures = load(programs, upstream.port, "--mode", "setup")
    counted = upstream.counters()
    assert figures["errors"] == 0
    assert counted["initialize"] == counted["initialized"] == counted["delete"] == figures["total"] > 0


def test_streams_are_held(programs: dict[str, Path], start_upstream: StartUpstream) -> None:
    upstream = start_upstream()
    figures = load(programs, upstream.port, "--mode", "hold", "--connections", "50")
    assert (figures["held"], figures["lost"], figures["errors"]) == (50, 0, 0)
    assert upstream.counters()["stream"] == 50


@pytest.mark.parametrize("era", ERAS)
def test_the_checking_client_agrees(start_upstream: StartUpstream, era: str) -> None:
    upstream = start_upstream()
    with McpClient(upstream.port, "/mcp", {}, era) as client:
        assert client.tools() == ["echo", "slow", "progress"]
        client.check_echo("echo")
        client.check_echo("progress")
        with pytest.raises(BenchError, match="unknown tool"):
            client.check_echo("absent")


def test_the_checking_client_notices_a_lie(start_upstream: StartUpstream) -> None:
    with McpClient(start_upstream("payload").port, "/mcp", {}, "modern") as client, pytest.raises(BenchError):
        client.check_echo("echo")


def test_the_upstream_refuses_headers_that_disagree_with_the_body(start_upstream: StartUpstream) -> None:
    upstream = start_upstream()
    with McpClient(upstream.port, "/mcp", {"Mcp-Name": "slow"}, "modern") as client:
        # the client's own headers come after those given, so the disagreement is made on the wire below it
        original = client._post
        client._post = lambda message, headers: original(message, {**headers, "Mcp-Name": "slow"})  # type: ignore[method-assign]
        with pytest.raises(BenchError, match="-32020"):
            client.check_echo("echo")
    assert upstream.counters()["refused"] == 1


def test_tool_names_may_carry_a_prefix() -> None:
    names = ["up0__echo", "gatehouse__health_get", "up0__t10", "up0__t1"]
    assert targets.find_tool(names, "echo") == "up0__echo"
    assert targets.find_tool(names, "t1") == "up0__t1"
    with pytest.raises(BenchError, match="slow"):
        targets.find_tool(names, "slow")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(BenchError, match="call-c16"):
        scenarios.select("nonsense")
    with pytest.raises(BenchError, match="nginx"):
        catalog.select("direct,nonsense")
    assert [s.name for s in scenarios.select("quick,call-c1")] == scenarios.GROUPS["quick"]


def test_a_process_is_sampled(start_upstream: StartUpstream) -> None:
    pid = start_upstream().process.pid
    assert tree(pid) == [pid]
    assert pss_mib(pid) > 0
    assert cpu_seconds(pid) >= 0


def run_direct(programs: dict[str, Path], upstream: Upstream, core: int, tmp_path: Path) -> Report:
    runner = Runner(programs["loadgen"], upstream, Cores(gateway=core, load=core), tmp_path)
    chosen = scenarios.select("call-c16,progress,list-50x20", seconds=0.2)
    return Report(runner.round([targets.Direct], chosen, 1), ["a note"])


def test_a_run_becomes_tables(
    programs: dict[str, Path], start_upstream: StartUpstream, core: int, tmp_path: Path
) -> None:
    report = run_direct(programs, start_upstream(), core, tmp_path)
    text = report.markdown()
    assert report.failures() == []
    assert "| target | call-c16 | progress | list-50x20 |" in text
    assert "tools_call 1.000 / 0.0000" in text
    assert "tools_list 1.000 / 0.0000" in text


def test_a_run_against_a_liar_fails(
    programs: dict[str, Path], start_upstream: StartUpstream, core: int, tmp_path: Path
) -> None:
    report = run_direct(programs, start_upstream("progress"), core, tmp_path)
    assert len(report.failures()) == 1
    assert "progress out of order" in report.failures()[0]
    assert "## Failures" in report.markdown()


def test_the_gatehouse_target_registers_restarts_and_loads(
    programs: dict[str, Path],
    start_upstream: StartUpstream,
    core: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in takes the place of `python -m gateway`; both kinds of upstreams are found again after the restart."""
    python = tmp_path / "python"
    stand_in = Path(__file__).with_name("stand_in.py")
    python.write_text(
        f'#!/bin/sh\ntest "$1 $2" = "-m gateway" || exit 9\nshift 2\nexec {sys.executable} {stand_in} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEHOUSE_BENCH_PYTHON", "./python")
    runner = Runner(programs["loadgen"], start_upstream(), Cores(gateway=core, load=core), tmp_path)
    chosen = scenarios.select("call-c1,list-50x20", seconds=0.2)
    records = runner.round([targets.Gatehouse, targets.Guarded], chosen, 1)
    report = Report(records)
    assert report.failures() == []
    assert [r["scenario"] for r in records] == ["start", "call-c1", "start-50x20", "list-50x20"] * 2
    (title,) = [line for line in report.markdown().splitlines() if "cost of all policies" in line]
    assert title == "## The cost of all policies: CPU per operation, gatehouse = 1"
    assert all(r["idle_pss_mib"] > 0 and r["cold_start_s"] > 0 for r in records if r["scenario"].startswith("start"))
    assert all(r["ok"] > 0 and r["cpu_us"] is not None for r in records if not r["scenario"].startswith("start"))


def test_a_gateway_that_cannot_start_is_a_failure_not_a_crash(
    programs: dict[str, Path],
    start_upstream: StartUpstream,
    core: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEHOUSE_BENCH_PYTHON", "/bin/false")
    runner = Runner(programs["loadgen"], start_upstream(), Cores(gateway=core, load=core), tmp_path)
    report = Report(runner.round([targets.Gatehouse], scenarios.select("call-c1"), 1))
    assert "ended with status 1" in report.failures()[0]
    assert "failed" in report.markdown()
