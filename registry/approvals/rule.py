"""A rule that says which calls wait for a person: a plain value without SQL, so that the data path can hold it.

All conditions of a rule must hold. Patterns are matched by an engine whose time grows linearly with the text, so that
no argument can make one run for long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal, cast

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from registry.approvals.errors import RuleInvalid

Compare = Literal["matches", "equals", "gt", "gte", "lt", "lte", "exists"]
Ask = Literal["caller", "inbox"]

_SEGMENT = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]")
_MAX_PATTERN = 1000


class Condition:
    """A condition on an argument.

    Args:
        path: like `payment.amount`, `items[0].name`, `items[*].price` or `$.a.*.b`.
        compare: how a value is compared; `exists` asks only whether there is one.
        value: what with: a pattern for `matches` (found anywhere in the text), a number for `gt`, `gte`, `lt`, `lte`.

    Raises:
        RuleInvalid: the path cannot be read, or the value does not suit.
    """

    __slots__ = ("_matches", "_path", "compare", "path", "value")

    def __init__(self, path: str, compare: Compare, value: Any = None) -> None:
        self.path = path
        self.compare: Compare = compare
        self.value = value
        self._path = _segments(path)
        self._matches: Callable[[Any], bool] = _comparison(compare, value)

    def holds(self, arguments: Any) -> bool:
        """Whether any value at the path compares as wanted."""
        return any(map(self._matches, _values(arguments, self._path)))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in force.

    Args:
        tool: `fnmatch` pattern of the tool's name on `/mcp`, like `files__*`.
        destructive: only tools that may destroy something; one without annotations may.
        min_price_usd: only calls that cost as much or more.
        ask: `caller`: the person at the client, where it can ask one; `inbox`: always somebody else.
        expires_seconds: how long a question waits, and how long its answer holds.
    """

    id: str
    org_id: str
    name: str
    tool: str = "*"
    destructive: bool = False
    argument: Condition | None = None
    min_price_usd: float | None = None
    ask: Ask = "caller"
    expires_seconds: int = field(default=900)

    def matches(self, tool: str, *, destructive: bool, price_usd: float, arguments: Callable[[], Any]) -> bool:
        """Whether a call waits.

        Args:
            arguments: reads the arguments; called only where a rule needs them.
        """
        return (
            (destructive or not self.destructive)
            and (self.min_price_usd is None or price_usd >= self.min_price_usd)
            and _fits(tool, self.tool)
            and (self.argument is None or self.argument.holds(arguments()))
        )


@lru_cache(10_000)
def _fits(tool: str, pattern: str) -> bool:
    """Every call asks, of the same few tools and patterns."""
    return fnmatchcase(tool, pattern)


def _segments(path: str) -> tuple[str | int | None, ...]:
    """The steps of a path; `None` is every member or item."""
    text = path.removeprefix("$")
    made: list[str | int | None] = []
    end = 0
    for found in _SEGMENT.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        name, index = found.groups()
        made.append(None if "*" in (name, index) else int(index) if index is not None else name)
    if end != len(text) or not made:
        raise RuleInvalid(f"{path!r} is no path: write one like payment.amount or items[*].price.", field="argument")
    return tuple(made)


def _values(value: Any, path: tuple[str | int | None, ...]) -> Iterator[Any]:
    if not path:
        yield value
        return
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if step is None:
            for member in members.values():
                yield from _values(member, rest)
        elif str(step) in members:
            yield from _values(members[str(step)], rest)
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        if step is None:
            for item in items:
                yield from _values(item, rest)
        elif isinstance(step, int) and step < len(items):
            yield from _values(items[step], rest)


def _comparison(compare: Compare, value: Any) -> Callable[[Any], bool]:
    match compare:
        case "exists":
            return lambda _: True
        case "equals":
            return lambda found: found == value and isinstance(found, bool) == isinstance(value, bool)
        case "matches":
            return _pattern(value)
        case _:
            wanted = _number(value)
            if wanted is None:
                raise RuleInvalid(f"{compare} compares with a number.", field="argument")
            return lambda found: _compared(_number(found), compare, wanted)


def _pattern(value: Any) -> Callable[[Any], bool]:
    if not isinstance(value, str) or not value or len(value) > _MAX_PATTERN:
        raise RuleInvalid(f"matches needs a pattern of at most {_MAX_PATTERN} characters.", field="argument")
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=value, regex_engine="rust-regex", strict=True))
    except SchemaError:
        raise RuleInvalid(
            "The pattern cannot be read: it has neither look-around nor references back.", field="argument"
        ) from None

    def matches(found: Any) -> bool:
        text = found if isinstance(found, str) else None if isinstance(found, dict | list) else str(found)
        try:
            return text is not None and validator.validate_python(text) is not None
        except ValidationError:
            return False

    return matches


def _number(value: Any) -> float | None:
    """A number, also one that was written as text: quotes must not lead past a rule."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _compared(found: float | None, compare: Compare, wanted: float) -> bool:
    if found is None:
        return False
    match compare:
        case "gt":
            return found > wanted
        case "gte":
            return found >= wanted
        case "lt":
            return found < wanted
        case _:
            return found <= wanted
