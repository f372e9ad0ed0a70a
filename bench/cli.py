"""The command line: reads the options, runs the rounds, prints the report and writes the JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import catalog, peers, scenarios
from bench.errors import BenchError
from bench.machine import Cores, choose_cores
from bench.programs import Upstream, build
from bench.report import Report
from bench.runner import Runner, say
from bench.window import NOISE_LIMIT

HERE = Path(__file__).resolve().parent


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="bench/run", description="Measures gateways side by side on this machine.")
    kinds = ", ".join([*catalog.GROUPS, *catalog.TARGETS])
    p.add_argument(
        "--targets", default="core", help=f"comma-separated groups or names (default: %(default)s); there are {kinds}"
    )
    names = ", ".join([*scenarios.GROUPS, *scenarios.ALL])
    p.add_argument(
        "--scenarios", default="core", help=f"comma-separated groups or names (default: %(default)s); there are {names}"
    )
    p.add_argument(
        "--rounds", type=int, default=1, help="how often everything is measured; the tables show medians (default: 1)"
    )
    p.add_argument(
        "--seconds",
        type=float,
        help="length of every measured window (default: each scenario's own, 2 or 3); longer for peers",
    )
    p.add_argument(
        "--side-by-side",
        action="store_true",
        help="start every target once and let their windows take turns: for ratios on a machine whose speed drifts",
    )
    p.add_argument(
        "--json",
        type=Path,
        default=HERE / "results" / "latest.json",
        help="where the figures go (default: %(default)s)",
    )
    p.add_argument(
        "--install-peers",
        nargs="?",
        const=",".join(peers.ENVIRONMENTS),
        metavar="NAME,...",
        help="make the environments of the peers (default: all of %(const)s) and measure nothing",
    )
    return p


def _install(names: list[str]) -> int:
    if unknown := [name for name in names if name not in peers.ENVIRONMENTS]:
        raise BenchError(f"there is no peer {', '.join(unknown)}; there are {', '.join(peers.ENVIRONMENTS)}")
    peers.install(names)
    say(f"installed in {peers.place()}: {', '.join(names)}")
    return 0


def _notes(cores: Cores) -> list[str]:
    where = f"gateway alone on core {cores.gateway}; upstream, load generator and runner on core {cores.load}"
    if cores.shared:
        where = f"**one core only ({cores.load})**: everything shares it, so compare CPU per operation, not rates"
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.release()}, {os.cpu_count()} cores",
        f"Pinning: {where}",
        f"`~`: others took over {NOISE_LIMIT:.0%} of a core even in the best window; `!n`: n wrong or missing answers",
        "`list-50x20`: a target that cannot aggregate passes on one upstream of 1,000 tools",
    ]


def _run(options: argparse.Namespace) -> int:
    if options.install_peers is not None:
        return _install(options.install_peers.split(","))
    chosen, kinds = scenarios.select(options.scenarios, options.seconds), catalog.select(options.targets)
    programs, cores, run_dir = build(), choose_cores(), HERE / ".run"
    run_dir.mkdir(exist_ok=True)
    os.sched_setaffinity(0, {cores.load})  # the runner and the load generators it starts
    records: list[dict[str, Any]] = []
    upstream = Upstream(programs["upstream"], cores.load, run_dir)
    try:
        runner = Runner(programs["loadgen"], upstream, cores, run_dir)
        if options.side_by_side:
            records = runner.side_by_side(kinds, chosen, options.rounds)
        else:
            for number in range(1, options.rounds + 1):
                records += runner.round(kinds, chosen, number)
    finally:
        upstream.stop()
    notes = _notes(cores)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"notes": notes, "records": records}, indent=1) + "\n")
    report = Report(records, notes)
    print(report.markdown())
    say(f"figures: {options.json}")
    return 1 if report.failures() else 0


def main(arguments: list[str] | None = None) -> int:
    """Answers 0, 1 when a target failed or answered wrongly, 2 when the benchmark could not run."""
    try:
        return _run(parser().parse_args(arguments))
    except BenchError as error:
        print(f"bench/run: {error}", file=sys.stderr)
        return 2
