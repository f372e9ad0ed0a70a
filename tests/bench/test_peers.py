"""The peers and the ceiling as targets of the benchmark, without any peer installed: what is chosen, what is said when
an environment is missing, what is not asked of whom, how the lead over them is reported; and the ceiling end to end.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from bench import catalog, cli, peers, scenarios
from bench.ceilings import Ceiling
from bench.errors import BenchError, MissingProgram
from bench.machine import Cores
from bench.peers import ContextForge, FastMcp, LiteLlm, TunedContextForge
from bench.programs import Upstream, build
from bench.report import Report
from bench.runner import Runner, patient
from bench.targets import Behind, Direct, Gatehouse, Target


@pytest.fixture
def cores() -> Cores:
    core = min(os.sched_getaffinity(0))
    return Cores(gateway=core, load=core)


@pytest.fixture
def upstream(cores: Cores, tmp_path: Path) -> Iterator[Upstream]:
    upstream = Upstream(build()["upstream"], cores.load, tmp_path)
    yield upstream
    upstream.stop()


@pytest.fixture
def runner(upstream: Upstream, cores: Cores, tmp_path: Path) -> Runner:
    return Runner(build()["loadgen"], upstream, cores, tmp_path)


@pytest.fixture
def ceiling(upstream: Upstream, cores: Cores, tmp_path: Path) -> Iterator[Ceiling]:
    target = Ceiling(cores, tmp_path)
    target.fresh_directory()
    target.prepare([Behind("up0", upstream.port)])
    target.start()
    try:
        target.wait_ready({"echo": 1})
        yield target
    finally:
        target.stop()


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for environments."""
    place = tmp_path / "peers"
    monkeypatch.setenv(peers.PLACE, str(place))
    return place


def pretend(place: Path, name: str) -> None:
    python = place / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()


# -- choosing


def test_groups_name_the_checkout_and_the_peers(environments: Path) -> None:
    for name in peers.ENVIRONMENTS:
        pretend(environments, name)
    assert catalog.select("peers") == [FastMcp, LiteLlm, ContextForge, TunedContextForge]
    assert catalog.select("fastmcp,peers,direct,fastmcp") == [FastMcp, LiteLlm, ContextForge, TunedContextForge, Direct]
    assert {*catalog.GROUPS["core"], *catalog.GROUPS["peers"]} == set(catalog.TARGETS)
    assert {catalog.TARGETS[name].packages for name in catalog.GROUPS["peers"]} == set(peers.ENVIRONMENTS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", catalog.GROUPS["peers"])
def test_a_missing_environment_is_said_before_anything_is_measured(
    name: str, environments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--targets", f"direct,{name}", "--scenarios", "call-c1"]) == 2
    said = capsys.readouterr()
    assert f"bench/run --install-peers {catalog.TARGETS[name].packages}" in said.err  # type: ignore[attr-defined]
    assert str(environments) in said.err
    assert "round 1" not in said.err
    assert said.out == ""


def test_an_unknown_peer_is_not_installed(environments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--install-peers", "fastmcp,nonsense"]) == 2
    assert "no peer nonsense; there are fastmcp, litellm, contextforge" in capsys.readouterr().err
    assert not environments.exists()


@pytest.mark.parametrize("python", ["python-that-is-not-there", "false"])
def test_installing_needs_an_interpreter(python: str, environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.PYTHON, python)
    with pytest.raises(MissingProgram, match=peers.PYTHON):
        peers.install(["fastmcp"])


@pytest.mark.parametrize("with_uv", [True, False])
def test_each_peer_gets_its_own_environment_and_pinned_versions(
    environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_uv: bool
) -> None:
    """A uv and a python that only write down what they were asked."""
    log = tmp_path / "log"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ["python3.12", *(["uv"] if with_uv else [])]:
        program = programs / name
        # a new environment is a folder with an interpreter of the same kind
        program.write_text(
            f'#!/bin/sh\ntest "$1" = -c && exit 0\necho "{name} $*" >> {log}\n'
            'case "$*" in *venv*) for last; do :; done;'
            f' /bin/mkdir -p "$last/bin" && /bin/cp {programs}/python3.12 "$last/bin/python";; esac\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(peers.sys, "executable", str(programs / "python3"))
    peers.install(["fastmcp", "contextforge"])
    lines = log.read_text().splitlines()
    assert len(lines) == 4
    for line, name in zip(lines[1::2], ["fastmcp", "contextforge"], strict=True):
        assert line.startswith("uv pip install" if with_uv else "python3.12 -m pip install")
        assert line.endswith(" ".join(peers.ENVIRONMENTS[name]))
        assert (environments / name / "bin" / "python").exists()
    assert all("==" in package for packages in peers.ENVIRONMENTS.values() for package in packages)


def test_an_install_that_fails_says_why(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ntest $1 = -c && exit 0\necho no room left >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv(peers.PYTHON, str(python))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(peers.sys, "executable", "/nowhere/python3")
    with pytest.raises(BenchError, match="status 3: no room left"):
        peers.install(["fastmcp"])


# -- what is not asked, and what is asked for longer


class Partial(Direct):
    """A target that knows only the older era, and no progress."""

    name = "partial"
    not_offered = MappingProxyType({"modern": "too new", "progress": "not passed on"})


@pytest.mark.parametrize("side_by_side", [False, True])
def test_what_a_target_does_not_offer_is_no_wrong_answer(runner: Runner, *, side_by_side: bool) -> None:
    chosen = scenarios.select("call-c1,modern-c1,progress", seconds=0.2)
    records = runner.side_by_side([Partial], chosen, 1) if side_by_side else runner.round([Partial], chosen, 1)
    report = Report(records)
    assert report.failures() == []
    assert report.not_offered() == ["partial modern-c1: too new", "partial progress: not passed on"]
    row = next(line for line in report.markdown().splitlines() if line.startswith("| partial |"))
    assert row.endswith("| not offered | not offered |")
    assert [r["scenario"] for r in records if r.get("ok")] == ["call-c1"]


def test_a_target_is_not_started_for_what_it_does_not_offer(runner: Runner) -> None:
    class Unstartable(Partial):
        def prepare(self, behind: list[Behind]) -> None:
            raise AssertionError("started")

    (record,) = runner.round([Unstartable], scenarios.select("progress"), 1)
    assert record["not_offered"] == "not passed on"


def test_slow_targets_get_longer_windows() -> None:
    (usual,) = scenarios.select("call-c16")
    (short,) = scenarios.select("call-c16", seconds=0.2)
    (long,) = scenarios.select("call-c16", seconds=30)
    assert patient(short, Gatehouse.patience) == short
    times = FastMcp.patience
    assert times > 1
    assert patient(short, times).seconds == patient(usual, times).seconds == usual.seconds * times
    assert patient(long, times).seconds == 30
    assert patient(usual, times).timeout == usual.timeout * times


# -- how the peers are started


def prepared(kind: type[Target], environments: Path, cores: Cores, tmp_path: Path) -> Any:
    pretend(environments, kind.packages)  # type: ignore[attr-defined]
    for program in ("litellm", "mcpgateway"):
        (environments / kind.packages / "bin" / program).touch()  # type: ignore[attr-defined]
    target = kind(cores, tmp_path)
    target.fresh_directory()
    return target


def test_litellm_asks_for_its_key(environments: Path, cores: Cores, tmp_path: Path) -> None:
    target = prepared(LiteLlm, environments, cores, tmp_path)
    target.prepare([Behind("up0", 4321)])
    config = (tmp_path / "litellm" / "config.yaml").read_text()
    key = target.headers["Authorization"].removeprefix("Bearer ")
    assert f"master_key: {key}\n" in config
    assert "url: http://127.0.0.1:4321/mcp\n" in config
    assert target.command()[0] == str(environments / "litellm" / "bin" / "litellm")
    assert str(target.port) in target.command()


def test_the_tuned_contextforge_differs_by_its_settings_alone(environments: Path, cores: Cores, tmp_path: Path) -> None:
    plain = prepared(ContextForge, environments, cores, tmp_path)
    tuned = TunedContextForge(cores, tmp_path)
    for target in (plain, tuned):
        target._secret, target._passwords = "s", {}
    before, after = plain.environment(), tuned.environment()
    before.pop("DATABASE_URL"), after.pop("DATABASE_URL")
    assert {**after, **before} | dict(TunedContextForge.settings) == after
    assert after["USE_STATEFUL_SESSIONS"] == "true"
    assert before["RATE_LIMITING_ENABLED"] == after["RATE_LIMITING_ENABLED"] == "false"
    assert not any(name.startswith("HTTPX_") for name in before)


# -- the report


def record(target: str, rps: float, **more: Any) -> dict[str, Any]:
    window = {"rps": rps, "p50_ms": 1.0, "p99_ms": 2.0, "ok": 9, "total": 9, "errors": 0, "error_samples": []}
    beside = {"foreign": 0.0, "attempts": 1, "cpu_us": 10.0, "pss_mib": 1.0, "upstream_requests": {}}
    return {"target": target, "round": 1, "scenario": "call-c16", **window, **beside, **more}


def lead(records: list[dict[str, Any]]) -> list[str]:
    """The rows of the table of leads; none when there is no such table."""
    _, found, behind = Report(records).markdown().partition("## Operations per second, times the best peer\n\n")
    return behind.partition("\n\n")[0].splitlines()[2:] if found else []


def test_the_lead_is_over_the_best_peer() -> None:
    records = [record("gatehouse", 9000), record("guarded", 4500), record("nginx", 50000), record("fastmcp", 30)]
    assert lead([*records, record("litellm", 50)]) == ["| gatehouse | 180 (litellm) |", "| guarded | 90.0 (litellm) |"]
    assert lead(records) == ["| gatehouse | 300 (fastmcp) |", "| guarded | 150 (fastmcp) |"]


def test_a_peer_that_answers_wrongly_or_not_at_all_is_not_the_best() -> None:
    records = [record("gatehouse", 9000), record("fastmcp", 30), record("litellm", 50, errors=1, error_samples=["x"])]
    failed = {"target": "contextforge", "round": 1, "scenario": "call-c16", "error": "gone"}
    assert lead([*records, failed]) == ["| gatehouse | 300 (fastmcp) |"]
    assert lead([records[0], failed]) == ["| gatehouse | - |"]


def test_without_a_peer_there_is_no_lead() -> None:
    assert lead([record("gatehouse", 9000), record("nginx", 50000), record("ceiling", 30000)]) == []


# -- the ceiling


def test_the_ceiling_passes_every_answer_on(runner: Runner) -> None:
    chosen = scenarios.select("call-c16,call-1m,modern-c16,progress,setup,list", seconds=0.3)
    records = runner.round([Ceiling], chosen, 1)
    assert Report(records).failures() == []
    measured = [r for r in records if r["scenario"] != "start"]
    assert [r["scenario"] for r in measured] == [s.name for s in chosen]
    assert all(r["ok"] > 0 for r in measured)
    assert measured[0]["upstream_requests"]["tools_call"] == 1
    assert sum(r["upstream_requests"].get("refused", 0) for r in measured) == 0


def test_the_ceiling_lends_one_connection_to_all_clients_in_turn(ceiling: Ceiling, upstream: Upstream) -> None:
    upstream.reset()
    for _ in range(5):
        with ceiling.client("modern") as client:
            client.check_echo("echo")
    assert upstream.counters()["connections"] == 0
    assert upstream.counters()["tools_call"] == 5


def test_a_connection_whose_answer_nobody_waits_for_is_not_lent_again(ceiling: Ceiling, upstream: Upstream) -> None:
    upstream.reset()
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    with socket.create_connection(("127.0.0.1", ceiling.port), timeout=30) as half:
        half.sendall(f"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n{text[:9]}".encode())
        # while that request is half sent, its connection is not free for another
        with ceiling.client("modern") as client:
            client.check_echo("echo")
    with ceiling.client("modern") as client:
        client.check_echo("echo")
    assert upstream.counters()["tools_call"] == 2
    assert upstream.counters()["connections"] == 1


def test_what_is_no_http_is_hung_up_on(ceiling: Ceiling) -> None:
    with socket.create_connection(("127.0.0.1", ceiling.port), timeout=30) as client:
        client.sendall(b"\x16\x03\x01 no request\r\n\r\n")
        assert client.recv(1) == b""


def test_the_ceiling_without_its_upstream_hangs_up(ceiling: Ceiling, upstream: Upstream) -> None:
    upstream.stop()
    with pytest.raises((OSError, http.client.HTTPException)), ceiling.client("modern") as client:
        client.check_echo("echo")
