"""One measured window: the load generator's figures and, over the same seconds, what everybody took from the cores.

The load generator says when its measured window begins and ends; the samples are taken at these two moments.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench import machine
from bench.errors import BenchError
from bench.machine import Cores
from bench.programs import Upstream
from bench.scenarios import Scenario

NOISE_LIMIT = 0.08
ATTEMPTS = 3


@dataclass(frozen=True)
class Load:
    """Where to send what: the endpoint of a running target (`gateway` is its pid, None without a gateway)."""

    scenario: Scenario
    port: int
    path: str
    headers: Mapping[str, str]
    tool: str
    tools_offered: int
    gateway: int | None

    def command(self, program: Path) -> list[str]:
        command = [
            str(program),
            "--port",
            str(self.port),
            "--path",
            self.path,
            "--tool",
            self.tool,
            *self.scenario.arguments(),
        ]
        if self.scenario.mode == "list":
            command += ["--expect-tools", str(self.tools_offered)]
        for name, value in self.headers.items():
            command += ["--header", f"{name}: {value}"]
        return command


@dataclass(frozen=True)
class Sample:
    """Seconds so far, of the clock and of CPU time by whom."""

    at: float
    gateway: float
    load: float
    gateway_core: float
    load_core: float
    connections: int


class Measurer:
    """Runs windows against one target after the other, all before the same upstream."""

    def __init__(self, program: Path, cores: Cores, upstream: Upstream) -> None:
        self._program, self._cores, self._upstream = program, cores, upstream

    def quietest(self, load: Load) -> dict[str, Any]:
        """Measures until a window was quiet, at most three times, and answers the quietest; errors of all are kept.

        Streams are held once: a second time they would find the memory of the first.
        """
        tried: list[dict[str, Any]] = []
        attempts = 1 if load.scenario.mode == "hold" else ATTEMPTS
        while len(tried) < attempts and not (tried and tried[-1]["foreign"] <= NOISE_LIMIT):
            tried.append(self.measure(load))
        best = min(tried, key=lambda window: window["foreign"])
        samples = [text for window in tried for text in window["error_samples"]]
        return {**best, "errors": sum(w["errors"] for w in tried), "error_samples": samples[:3], "attempts": len(tried)}

    def measure(self, load: Load) -> dict[str, Any]:
        """One window. Raises BenchError when the load generator fails or the gateway vanishes."""
        self._upstream.reset()
        pss_before = machine.pss_mib(load.gateway) if load.gateway else 0.0
        generator = subprocess.Popen(
            load.command(self._program), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert generator.stdout is not None
            self._expect(generator.stdout, "measure")
            before = self._sample(load.gateway, generator.pid)
            if load.scenario.mode == "hold":
                time.sleep(load.scenario.seconds / 2)
            pss_held = machine.pss_mib(load.gateway) if load.gateway and load.scenario.mode == "hold" else 0.0
            self._expect(generator.stdout, "end")
            after = self._sample(load.gateway, generator.pid)
            figures = json.loads(generator.stdout.read())
        finally:
            generator.kill()
            generator.communicate()
        pss_after = machine.pss_mib(load.gateway) if load.gateway else 0.0
        if load.gateway and not pss_after:
            raise BenchError("the gateway ended under load")
        window = {**figures, **self._shares(before, after, load.gateway), "pss_mib": max(pss_held, pss_after)}
        if load.gateway:
            window["cpu_us"] = (after.gateway - before.gateway) * 1e6 / figures["ok"] if figures["ok"] else None
        if pss_held and figures["held"]:
            window["kib_per_stream"] = (pss_held - pss_before) * 1024 / figures["held"]
        return {**window, **self._upstream_work(figures, after.connections - before.connections)}

    def _expect(self, output: IO[str], phase: str) -> None:
        line = output.readline()
        try:
            if json.loads(line)["phase"] == phase:
                return
        except (ValueError, KeyError, TypeError):
            pass
        raise BenchError(f"the load generator said {line + output.read()!r} where it should begin its phase {phase!r}")

    def _sample(self, gateway: int | None, generator: int) -> Sample:
        load = (
            machine.cpu_seconds(generator) + machine.cpu_seconds(self._upstream.process.pid) + machine.own_cpu_seconds()
        )
        return Sample(
            at=time.monotonic(),
            gateway=machine.cpu_seconds(gateway) if gateway else 0.0,
            load=load,
            gateway_core=machine.core_seconds(self._cores.gateway),
            load_core=machine.core_seconds(self._cores.load),
            connections=self._upstream.counters()["connections"],
        )

    def _shares(self, a: Sample, b: Sample, gateway_pid: int | None) -> dict[str, float]:
        """What others took from each core, as a share of the window; ticks round, so a little below 0 counts as 0."""
        seconds = b.at - a.at
        gateway, load = b.gateway - a.gateway, b.load - a.load
        if self._cores.shared:
            gateway = load = gateway + load
        on_gateway = max(0.0, (b.gateway_core - a.gateway_core - gateway) / seconds)
        on_load = max(0.0, (b.load_core - a.load_core - load) / seconds)
        return {
            "gateway_core_used": gateway / seconds,
            "load_core_used": load / seconds,
            "foreign_gateway": on_gateway,
            "foreign_load": on_load,
            "foreign": max(on_gateway, on_load)
            if gateway_pid
            else on_load,  # without a gateway its core does not matter
        }

    def _upstream_work(self, figures: dict[str, Any], connections: int) -> dict[str, Any]:
        """Requests per operation over the whole run, warm-up and drain too, so that the quotient is exact; connections
        in the measured window only, where everything is warm.
        """
        counted = self._upstream.counters()
        total, ok = figures["total"], figures["ok"]
        requests = {k: n / total for k, n in counted.items() if n and k != "connections"} if total else {}
        return {"upstream_requests": requests, "new_connections": connections / ok if ok else None}
