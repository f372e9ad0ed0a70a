"""What a misbehaving server costs, in figures: its own callers, and those of its neighbour. Printed as a table.

The gateway runs alone on one core, as in the other measurements; both servers and the clients share the other. The
neighbour is called in a closed loop by four clients, and the misbehaving server by four more at a fixed pace, once
while it works and once while it does not, so that only the fault differs.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.errors import BenchError
from bench.fault_client import Caller, Ended
from bench.machine import Process, choose_cores
from bench.programs import Upstream, build
from bench.runner import say
from bench.targets import Behind, Gatehouse

HERE = Path(__file__).resolve().parent
DEADLINE = 1.0
"""First byte and idle, in seconds; what streams for ever ends at `TOTAL`."""
TOTAL = 2.0
PACE = 0.2
"""Seconds between two calls of one client of the misbehaving server."""
FAULTS = {
    "hang": DEADLINE,
    "drip": TOTAL,
    "reset_before": 0.0,
    "reset_amid": 0.0,
    "invalid_json": 0.0,
    "wrong_id": 0.0,
    "wrong_id_in_events": 0.0,
    "giant_event": TOTAL,
    "bomb": 0.0,
    "html_500": 0.0,
    "html_503": 0.0,
}
"""Faults by the deadline that ends their calls; 0 where the answer itself does."""
GOALS = "goals: error 250 ms after the deadline, fast-fail 50 ms, recovery 10 s, neighbour 10 %"


@dataclass
class Row:
    fault: str
    codes: str
    late_ms: float
    opened: bool
    fast_ms: float
    recovery_s: float
    before_ms: float
    during_ms: float
    errors: int


class Matrix:
    """The faults one after the other, before a running gateway."""

    def __init__(self, gateway: Gatehouse, bad_port: int, seconds: float) -> None:
        self._gateway, self._bad_port, self._seconds = gateway, bad_port, seconds
        self._callers = [self._caller() for _ in range(4)]
        self._neighbours = [self._caller() for _ in range(4)]

    def _caller(self) -> Caller:
        return Caller(self._gateway.port, self._gateway.headers)

    async def row(self, fault: str) -> Row:
        await self._switch("good")
        await self._recovered()
        before, errors = await self._neighbour("good")
        await self._recovered()
        await self._switch(fault)
        first = await asyncio.gather(*(self._caller().call("bad__tool") for _ in range(5)))
        fast = [await self._callers[0].call("bad__tool") for _ in range(10)]
        during, more = await self._neighbour(fault)
        await self._switch("good")
        began = time.perf_counter()
        await self._recovered()
        return Row(
            fault,
            "/".join(sorted({end.outcome for end in first})),
            max(0.0, max(end.seconds for end in first) - FAULTS[fault]) * 1000,
            all(end.outcome == "-31003" for end in fast),
            max(end.seconds for end in fast) * 1000,
            time.perf_counter() - began,
            before,
            during,
            errors + more,
        )

    async def _switch(self, fault: str) -> None:
        def switch() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._bad_port, timeout=30)
            connection.request("GET", f"/switch/{fault}")
            connection.getresponse().read()
            connection.close()

        await asyncio.to_thread(switch)

    async def _recovered(self) -> None:
        async with asyncio.timeout(30):
            while (await self._callers[0].call("bad__tool")).outcome != "ok":
                await asyncio.sleep(0.05)

    async def _neighbour(self, fault: str) -> tuple[float, int]:
        """The 95th percentile of the neighbour's latency in milliseconds, and how many of its calls failed."""
        ends: list[Ended] = []
        stop = time.perf_counter() + self._seconds

        async def neighbour(caller: Caller) -> None:
            while time.perf_counter() < stop:
                ends.append(await caller.call("good__echo"))

        async def beside(caller: Caller) -> None:
            while time.perf_counter() < stop:
                await caller.call("bad__tool")
                await asyncio.sleep(PACE)

        await asyncio.gather(*map(neighbour, self._neighbours), *map(beside, self._callers))
        good = [end.seconds for end in ends if end.outcome == "ok"]
        if len(good) < 20:
            raise BenchError(f"the neighbour answered {len(good)} of {len(ends)} calls beside {fault}")
        return statistics.quantiles(good, n=20)[-1] * 1000, len(ends) - len(good)


def _start(server: Process) -> int:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        words = server.log.read_text().split()
        if words[:1] == ["listening"]:
            return int(words[1])
        server.check_alive()
        time.sleep(0.02)
    raise BenchError("the misbehaving server did not announce its port within 20 s")


class Both(Gatehouse):
    """The gateway with the deadlines of the misbehaving server."""

    def _register(self, upstream: Behind) -> None:
        super()._register(upstream)
        if upstream.name != "bad":
            return
        server = next(s for s in json.loads(self._rest("GET", "/v1/mcp/servers")[1])["servers"] if s["name"] == "bad")
        deadlines = {"connect": 1.0, "first_byte": DEADLINE, "idle": DEADLINE, "total": TOTAL}
        status, answer = self._rest("PUT", f"/v1/mcp/servers/{server['id']}", {"deadlines": deadlines})  # type: ignore[dict-item]
        if status != 200:
            raise BenchError(f"setting deadlines answered {status}: {answer[:300].decode(errors='replace')}")


def _table(rows: list[Row]) -> str:
    head = "fault | ends as | after its deadline ms | breaker | fast-fail ms | recovery s | neighbour's p95 ms | moved"
    lines = [f"| {head} | wrong |", "|---|---|---:|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        cells = [
            row.fault,
            row.codes,
            f"{row.late_ms:.0f}",
            "open" if row.opened else "CLOSED",
            f"{row.fast_ms:.1f}",
            f"{row.recovery_s:.1f}",
            f"{row.before_ms:.2f} → {row.during_ms:.2f}",
            f"{(row.during_ms / row.before_ms - 1) * 100:+.0f} %",
            str(row.errors),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", GOALS])


@contextmanager
def running() -> Iterator[tuple[Gatehouse, int]]:
    """A gateway before both servers, and the misbehaving one's port."""
    programs, cores, run_dir = build(), choose_cores(), HERE / ".run"
    run_dir.mkdir(exist_ok=True)
    os.sched_setaffinity(0, {cores.load})
    good = Upstream(programs["upstream"], cores.load, run_dir)
    bad = Process([sys.executable, str(HERE / "fault_server.py")], cores.load, run_dir / "faulty.log")
    gateway = Both(cores, run_dir)
    try:
        bad_port = _start(bad)
        gateway.fresh_directory()
        gateway.prepare([Behind("good", good.port, 0), Behind("bad", bad_port, 0)])
        gateway.start()
        gateway.wait_ready({"echo": 1, "tool": 1})
        yield gateway, bad_port
    finally:
        gateway.stop()
        bad.stop()
        good.stop()


def measure(gateway: Gatehouse, bad_port: int, faults: list[str], seconds: float, rounds: int) -> list[Row]:
    """Every fault, `rounds` times; the neighbour's figures are medians, the others the worst."""

    async def run() -> list[Row]:
        matrix = Matrix(gateway, bad_port, seconds)
        rows: list[Row] = []
        for fault in faults:
            say(f"  {fault}")
            rows.append(_joined([await matrix.row(fault) for _ in range(rounds)]))
        return rows

    return asyncio.run(run())


def _joined(rows: list[Row]) -> Row:
    return Row(
        rows[0].fault,
        "/".join(sorted({code for row in rows for code in row.codes.split("/")})),
        max(row.late_ms for row in rows),
        all(row.opened for row in rows),
        max(row.fast_ms for row in rows),
        max(row.recovery_s for row in rows),
        statistics.median(row.before_ms for row in rows),
        statistics.median(row.during_ms for row in rows),
        sum(row.errors for row in rows),
    )


def main(arguments: list[str] | None = None) -> int:
    """Answers 0, 1 when a breaker stayed closed or a neighbour's call failed, 2 when it could not run."""
    p = argparse.ArgumentParser(prog="bench/faults", description="Measures what misbehaving servers and clients cost.")
    p.add_argument("--faults", default=",".join(FAULTS), help="comma-separated (default: %(default)s)")
    p.add_argument("--seconds", type=float, default=2.0, help="of each window of the neighbour's (default: 2)")
    p.add_argument("--rounds", type=int, default=3, help="of each fault (default: 3)")
    p.add_argument("--slow", type=int, default=1000, help="slow connections to hold, 0 for none (default: 1000)")
    options = p.parse_args(arguments)
    try:
        with running() as (gateway, bad_port):
            names = [name for name in options.faults.split(",") if name]
            rows = measure(gateway, bad_port, names, options.seconds, options.rounds)
            print(_table(rows))
            if options.slow:
                print("\n" + hold(gateway, options.slow))
    except BenchError as error:
        print(f"bench/faults: {error}", file=sys.stderr)
        return 2
    return 0 if all(row.opened and not row.errors for row in rows) else 1


def hold(gateway: Gatehouse, number: int) -> str:
    """So many connections of each slow kind, and meanwhile `/livez`."""
    lines = [
        "| kind of slow client | held | `/livez` p50 / worst ms | PSS MiB before → with → after |",
        "|---|---:|---:|---:|",
    ]
    for kind, first in SLOW.items():
        say(f"  {number} x {kind}")
        lines.append(asyncio.run(_held(gateway, kind, first, number)))
    return "\n".join([*lines, "", "goal: /livez under 200 ms, memory flat"])


SLOW = {
    "half a request line": b"POST /mcp HT",
    "a head without end": b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    "a body without end": b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{",
    "nothing at all": b"",
}


async def _held(gateway: Gatehouse, kind: str, first: bytes, number: int) -> str:
    assert gateway.process
    pid = gateway.process.pid
    before = machine.pss_mib(pid)
    held: list[asyncio.StreamWriter] = []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(first)
        held.append(writer)
    times: list[float] = []
    for turn in range(50):
        for writer in held[turn::50]:
            if first:
                writer.write(b"x")  # a byte now and then, as a slow client does
        times.append(await _livez(gateway.port))
        await asyncio.sleep(0.04)
    during = machine.pss_mib(pid)
    for writer in held:
        writer.close()
    await asyncio.sleep(1.0)
    after = machine.pss_mib(pid)
    return (
        f"| {kind} | {number} | {statistics.median(times) * 1000:.1f} / {max(times) * 1000:.1f} "
        f"| {before:.0f} → {during:.0f} → {after:.0f} |"
    )


async def _livez(port: int) -> float:
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer[:20]:
        raise BenchError(f"/livez answered {answer[:100]!r}")
    return time.perf_counter() - began
