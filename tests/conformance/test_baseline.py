from __future__ import annotations

import pytest

from tests.conformance import test_era_pairs
from tests.conformance.baseline import complaints, passed, tables
from tests.conformance.required import (
    AUTH,
    AUTH_UNSCORED,
    CLIENT,
    CLIENT_UNSCORED,
    LEGACY,
    MODERN,
    NOT_DRIVEN,
    SERVER,
    SERVER_UNSCORED,
    driven,
)
from tests.conformance.suite import Check, Suite

GOOD, FAILED, WARNED = Check("a", "SUCCESS", ""), Check("b", "FAILURE", "no"), Check("c", "WARNING", "hm")


@pytest.mark.parametrize(("revision", "servers", "clients"), [(LEGACY, 30, 18), (MODERN, 37, 32)])
def test_the_table_is_what_the_suite_requires(suite: Suite, revision: str, servers: int, clients: int) -> None:
    assert set(SERVER[revision]) == set(suite.requirements(revision, "server"))
    assert len(SERVER[revision]) == servers
    assert set(SERVER_UNSCORED[revision]) == set(suite.unscored(revision, "server"))
    assert {*CLIENT[revision], *AUTH[revision]} == set(suite.requirements(revision, "client"))
    assert len(CLIENT[revision]) + len(AUTH[revision]) == clients


async def test_every_scenario_of_the_suite_is_run_or_has_a_reason(suite: Suite) -> None:
    known = await suite.scenarios()
    assert known.keys() == NOT_DRIVEN.keys()
    for side, names in known.items():
        # Once and no more: what is run needs no reason, and what has one is not run.
        assert sorted([*driven(side), *NOT_DRIVEN[side]]) == sorted(names), side
    assert all(len(reason) > 20 for reasons in NOT_DRIVEN.values() for reason in reasons.values())
    for revision in SERVER:
        assert not set(SERVER[revision]) & set(SERVER_UNSCORED[revision])
        scored = {*CLIENT[revision], *AUTH[revision]}
        assert not scored & {*CLIENT_UNSCORED[revision], *AUTH_UNSCORED[revision]}


def test_the_tables_of_the_baseline_are_of_runs_that_are_made() -> None:
    runs = {f"{revision} direct" for revision in SERVER}
    runs |= {f"{revision} to {era}" for revision in SERVER for era in ("legacy", "modern")}
    runs |= {f"{revision} {part}" for revision in CLIENT for part in ("client", "authorization")}
    assert set(tables()) <= {*runs, "era pairs"}
    pairs = {f"{name}[{path}]" for name in dir(test_era_pairs) for path in test_era_pairs.PATHS}
    assert set(tables().get("era pairs", {})) <= pairs
    assert all(reason.strip() for table in tables().values() for reason in table.values())
    assert set(CLIENT_UNSCORED) == set(CLIENT)


def test_what_passes_needs_no_excuse() -> None:
    results = {"x": [GOOD]}
    assert complaints(results, ["x"], {}) == []
    assert complaints(results, ["x", "y"], {}) == ["y was not run"]
    assert len(complaints(results, ["x"], {"x": "why"})) == 1
    assert len(complaints(results, ["x"], {"x:a": "why"})) == 1


def test_failures_and_warnings_need_one() -> None:
    results = {"x": [GOOD, FAILED, WARNED]}
    assert len(complaints(results, ["x"], {})) == 2
    assert complaints(results, ["x"], {"x:b": "why"}) == ["x: c (WARNING): hm"]
    assert complaints(results, ["x"], {"x": "why"}) == []
    assert complaints(results, ["x"], {"x:b": "why", "x:c": "why"}) == []


def test_a_scenario_passes_without_a_failure_and_not_without_checks() -> None:
    assert passed({"x": [GOOD, WARNED], "y": [GOOD, FAILED], "z": []}, ["x", "y", "z", "missing"]) == 1
