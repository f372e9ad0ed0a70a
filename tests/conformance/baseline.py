"""What does not pass, with its reason, and the judgement of a run by it.

`baseline.toml` has a table for each run; a key is a scenario, or `scenario:check` to excuse one check of it. An entry
whose checks all pass is a complaint too, so the file only ever becomes shorter.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conformance.suite import Results, bad_checks

FILE = Path(__file__).with_name("baseline.toml")

Baseline = Mapping[str, str]
"""Reason by scenario or `scenario:check`."""


def tables() -> dict[str, dict[str, str]]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def baseline(run: str) -> Baseline:
    """The table of a run; none where everything passes."""
    return tables().get(run, {})


def complaints(results: Results, required: Iterable[str], excused: Baseline) -> list[str]:
    """Where a run differs from what the baseline says of it."""
    said = [f"{name} was not run" for name in required if not results.get(name)]
    bad = bad_checks(results)
    for name, checks in bad.items():
        if name not in excused:
            said += [
                f"{name}: {check.id} ({check.status}): {check.message}"
                for check in checks
                if f"{name}:{check.id}" not in excused
            ]
    failing = set(bad) | {f"{name}:{check.id}" for name, checks in bad.items() for check in checks}
    said += [f"{entry} passes: take it out of the baseline" for entry in excused if entry not in failing]
    return said


def passed(results: Results, required: Iterable[str]) -> int:
    """How many of the required scenarios have no failed check, as the suite itself counts."""
    return sum(
        bool(results.get(name)) and all(check.status != "FAILURE" for check in results[name]) for name in required
    )
