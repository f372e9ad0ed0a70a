"""What happens when a component cannot be had: its tests are left out, loudly, and named in a run's closing lines.

The skip reason carries the component's name, so that it survives the way from an xdist worker to the closing lines.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
T = TypeVar("T")

_REASON = re.compile(r"component (?P<component>\S+) could not be had: (?P<why>.*)", re.DOTALL)


class ComponentMissing(Exception):
    """This machine does not have the component, and it could not be installed.

    Args:
        component: its name in the closing lines.
        why: what was tried and how it failed.
    """

    def __init__(self, component: str, why: str) -> None:
        super().__init__(f"component {component} could not be had: {why}")
        self.component = component
        self.why = why


@contextmanager
def skip_if_missing() -> Iterator[None]:
    """Leave the running test out when what it asks for inside is missing."""
    try:
        yield
    except ComponentMissing as error:
        pytest.skip(str(error))


def tried_once(find: Callable[P, T]) -> Callable[P, T]:
    """Remember what `find` returned or that it was missing: a failed installation is not tried again for each test."""

    @functools.cache
    def attempt(*args: P.args, **kwargs: P.kwargs) -> T | ComponentMissing:
        try:
            return find(*args, **kwargs)
        except ComponentMissing as error:
            return error

    @functools.wraps(find)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        found = attempt(*args, **kwargs)
        if isinstance(found, ComponentMissing):
            raise ComponentMissing(found.component, found.why)
        return found

    return wrapper


def closing_lines(skipped: list[tuple[str, str]]) -> list[str]:
    """The components that were missing, each with its tests.

    Args:
        skipped: node id and skip reason of every test that was left out.
    """
    left_out: dict[str, tuple[str, list[str]]] = {}
    for test, reason in skipped:
        found = _REASON.search(reason)
        if found:
            left_out.setdefault(found["component"], (found["why"], []))[1].append(test)
    if not left_out:
        return ["Components: every one that the tests asked for was there."]
    lines = ["Components that could not be had, and the tests left out for it:"]
    for component, (why, tests) in sorted(left_out.items()):
        lines.append(f"  {component}: {' '.join(why.split())}")
        lines += [f"    {test}" for test in sorted(tests)]
    return lines
