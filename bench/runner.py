"""One target after the other, each alone: prepare, timed start, one verified call, the scenarios, stop."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import machine
from bench.errors import BenchError, MissingProgram
from bench.machine import Cores
from bench.programs import Upstream
from bench.scenarios import ALL, Scenario
from bench.targets import Behind, Target, expected_tools, find_tool
from bench.window import Load, Measurer

SETTLE = 1.0  # seconds of rest before idle memory is read

Record = dict[str, Any]


class Runner:
    """Holds what all targets of a run share. Every failure of a target becomes a record, never an exception."""

    def __init__(self, loadgen: Path, upstream: Upstream, cores: Cores, run_dir: Path) -> None:
        self._upstream, self._cores, self._dir = upstream, cores, run_dir
        self._measurer = Measurer(loadgen, cores, upstream)

    def round(self, kinds: list[type[Target]], scenarios: list[Scenario], number: int) -> list[Record]:
        """Every target once; even rounds go backwards, so that a slow drift of the machine favours nobody."""
        records: list[Record] = []
        for kind in kinds if number % 2 else reversed(kinds):
            for (shape, _), group in groupby(sorted(scenarios, key=_needs_start), key=_needs_start):
                records += self._one_start(kind, shape, list(group), number)
        return records

    def _behind(self, kind: type[Target], shape: tuple[int, int]) -> list[Behind]:
        """What stands behind the target; one that cannot aggregate gets the same number of tools from one upstream."""
        upstreams, tools = shape
        port = self._upstream.port
        if kind.aggregates:
            return [Behind(f"up{k}", port, tools, k) for k in range(upstreams)]
        return [Behind("up0", port, upstreams * tools)]

    def side_by_side(self, kinds: list[type[Target]], scenarios: list[Scenario], rounds: int) -> list[Record]:
        """Every target is started once and stays; their windows take turns, so that a drift of the machine meets all.

        What the idle ones take is seen as taken by others. Raises BenchError for scenarios that need different starts.
        """
        if len({_needs_start(scenario) for scenario in scenarios}) != 1:
            raise BenchError("these scenarios stand before different upstreams: name those that share them")
        records: list[Record] = []
        with ExitStack() as stack:
            running = [stack.enter_context(self._running(kind, scenarios[0].shape)) for kind in kinds]
            for number in range(1, rounds + 1):
                for scenario in scenarios:
                    for target, names, _ in running if number % 2 else reversed(running):
                        say(f"round {number}: {target.name}")
                        if why := _not_offered(type(target), scenario):
                            record = {"scenario": scenario.name, "not_offered": why}
                        else:
                            record = self._one_scenario(target, scenario, names)
                        records.append({"target": target.name, "round": number, **record})
        return records

    @contextmanager
    def _running(self, kind: type[Target], shape: tuple[int, int]) -> Generator[tuple[Target, list[str], float]]:
        """The target once it answers, the names of its tools and the seconds that its start took."""
        target = kind(self._cores, self._dir)
        try:
            target.fresh_directory()
            behind = self._behind(kind, shape)
            target.prepare(behind)
            began = time.monotonic()
            target.start()
            names = target.wait_ready(expected_tools(behind))
            yield target, names, time.monotonic() - began
        finally:
            target.stop()

    def _one_start(
        self, kind: type[Target], shape: tuple[int, int], scenarios: list[Scenario], number: int
    ) -> list[Record]:
        mark: Record = {"target": kind.name, "round": number}
        say(f"round {number}: {kind.name}")
        why = {scenario.name: _not_offered(kind, scenario) for scenario in scenarios}
        refused = [{**mark, "scenario": name, "not_offered": reason} for name, reason in why.items() if reason]
        scenarios = [scenario for scenario in scenarios if not why[scenario.name]]
        if not scenarios:
            return refused
        try:
            with self._running(kind, shape) as (target, names, seconds):
                label = "start-{}x{}".format(*shape) if shape[1] else "start"
                start: Record = {**mark, "scenario": label, "cold_start_s": seconds}
                time.sleep(SETTLE)
                if target.process:
                    start["idle_pss_mib"] = machine.pss_mib(target.process.pid)
                measured = [{**mark, **self._one_scenario(target, scenario, names)} for scenario in scenarios]
                return [start, *measured, *refused]
        except MissingProgram:
            raise
        except (BenchError, OSError) as error:
            say(f"  {kind.name} failed: {error}")
            return [*({**mark, "scenario": s.name, "error": str(error)} for s in scenarios), *refused]

    def _one_scenario(self, target: Target, scenario: Scenario, names: list[str]) -> Record:
        scenario = patient(scenario, target.patience)
        pid = target.process.pid if target.process else None
        tool = find_tool(names, "t0" if scenario.tools_each else scenario.tool)
        load = Load(scenario, target.port, target.path, target.headers, tool, len(names), pid)
        try:
            target.check_alive()
            with target.client(scenario.era) as client:
                client.check_echo(find_tool(names, "t0" if scenario.tools_each else "echo"))
            record = self._measurer.quietest(load)
        except (BenchError, OSError, http.client.HTTPException, ValueError) as error:
            record = {"error": f"{type(error).__name__}: {error}"}
        say(f"  {scenario.name}: {_outcome(record)}")
        return {"scenario": scenario.name, **record}


def _needs_start(scenario: Scenario) -> tuple[tuple[int, int], bool]:
    """Scenarios that share a start: the same upstreams; held streams get their own, for their memory is measured."""
    return scenario.shape, scenario.mode == "hold"


def _not_offered(kind: type[Target], scenario: Scenario) -> str | None:
    """Why a target is not asked for a scenario; None when it is."""
    return kind.not_offered.get(scenario.name) or kind.not_offered.get(scenario.era)


def patient(scenario: Scenario, times: float) -> Scenario:
    """The scenario for a target whose calls are so slow that a window of ordinary length would hold only a few.

    A shorter window that was asked for is lengthened too: ten calls tell nothing.
    """
    if times <= 1:
        return scenario
    least = ALL[scenario.name].seconds * times
    return replace(scenario, seconds=max(scenario.seconds, least), timeout=scenario.timeout * times)


def _outcome(record: Record) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    figure = (
        f"{record['held']} streams held"
        if "held" in record
        else f"{record['rps']:,.0f}/s, p99 {record['p99_ms']:.2f} ms"
    )
    wrong = f", {record['errors']} errors: {record['error_samples'][:1]}" if record["errors"] else ""
    return f"{figure}, others took {record['foreign']:.0%}, {record['attempts']} windows{wrong}"


def say(text: str) -> None:
    """Progress goes to stderr: stdout holds the report alone."""
    print(text, file=sys.stderr, flush=True)
