"""Every requirement is shown by a test that runs, every marker names a requirement, and the list has its form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.conformance.requirements import LEVELS, PAGE, Requirement, marked_files, requirements, shown

AREAS = {
    *("base", "jsonrpc", "schema", "transport", "http", "legacy-http", "sse", "stdio", "version", "discover"),
    *("lifecycle", "ping", "cancel", "progress", "subscriptions", "lists", "caching", "pagination"),
    *("tools", "resources", "prompts", "completion", "logging"),
    *("mrtr", "elicitation", "sampling", "roots", "auth", "tasks", "apps", "bridge"),
}
BINDING = 200
"""Requirements that are the specification's own, rather than what follows for a gateway."""


def complaints(listed: list[Requirement], found: dict[str, list[str]]) -> list[str]:
    known = {one.id for one in listed}
    said = [f"{one.id} is shown by no test: {one.statement}" for one in listed if not found.get(one.id)]
    return said + [f"{name} is no requirement: {found[name][0]}" for name in sorted(found.keys() - known)]


def test_requirements_and_tests_name_each_other(tmp_path: Path) -> None:
    found = shown(marked_files(), tmp_path / "shown.json")
    assert complaints(requirements(), found) == []


def test_the_list_has_its_form() -> None:
    listed = requirements()
    assert {one.id.partition(".")[0] for one in listed} == AREAS
    for one in listed:
        assert one.level in LEVELS, one
        assert PAGE.fullmatch(one.page), one
        assert one.statement.endswith("."), one
    assert [text for text, count in Counter(one.statement for one in listed).items() if count > 3] == []
    assert sum(one.level != "bridge" for one in listed) >= BINDING


def test_what_is_missing_on_either_side_is_noticed(tmp_path: Path) -> None:
    sample = tmp_path / "test_sample.py"
    sample.write_text(
        "import pytest\n\n\n"
        "@pytest.mark.requirement('a.shown', 'a.unheard-of')\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_it(number):\n    pass\n\n\n"
        "@pytest.mark.requirement('a.never-run')\n"
        "def helper():\n    pass\n"
    )
    listed = [Requirement(name, "sep/1", "must", f"{name}.") for name in ("a.shown", "a.never-run")]
    found = shown([sample], tmp_path / "shown.json")
    assert len(found["a.shown"]) == 2
    assert complaints(listed, found) == [
        "a.never-run is shown by no test: a.never-run.",
        f"a.unheard-of is no requirement: {found['a.unheard-of'][0]}",
    ]
