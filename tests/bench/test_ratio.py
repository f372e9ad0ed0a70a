"""What a call costs, beside what it costs nginx on the same core in the same run: the guard against a path grown heavy.

No time is asserted: a slow machine makes both slow. What is allowed is far above what is measured on a quiet machine
(about 5 times nginx) and on one that does other things as well (about 10), and below what a session or a query for each
call would cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MOST = 25.0
SCENARIOS = ["call-c16", "modern-c16"]


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory, nginx: Path, gcc: Path) -> list[dict[str, Any]]:
    """Every window of a short run."""
    figures = tmp_path_factory.mktemp("ratio") / "figures.json"
    options = ["--targets", "nginx,gatehouse", "--scenarios", ",".join(SCENARIOS), "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run"), *options, "--side-by-side", "--json", str(figures)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(figures.read_text())["records"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_call_costs_a_few_times_what_it_costs_nginx(windows: list[dict[str, Any]], scenario: str) -> None:
    of = {window["target"]: window for window in windows if window["scenario"] == scenario}
    assert {target: window["errors"] for target, window in of.items()} == {"nginx": 0, "gatehouse": 0}
    assert of["gatehouse"]["upstream_requests"] == {"tools_call": 1.0}
    assert of["gatehouse"]["cpu_us"] < MOST * of["nginx"]["cpu_us"]
