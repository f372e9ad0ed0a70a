"""The form of an answer as data, and what an answer has that differs from it.

A form is a type, a set of the words that are allowed, a list of one form, a dict of named forms, a `Maybe`, or a
function that says whether a value has it. An answer may have more fields than its form: documents grow.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Maybe:
    """`None`, or of the form given."""

    form: Any


def is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def is_time(value: Any) -> bool:
    """ISO 8601 with a time zone, as a string."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(form: Any, value: Any, place: str = "answer") -> Iterator[str]:
    """What of `value` is not of `form`, by its place."""
    if isinstance(form, Maybe):
        if value is not None:
            yield from differences(form.form, value, place)
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            yield f"{place} is no object: {value!r}"
            return
        for name, inner in form.items():
            if name in value:
                yield from differences(inner, value[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is missing"
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{place} is no list: {value!r}"
            return
        for index, item in enumerate(value):
            yield from differences(form[0], item, f"{place}[{index}]")
    elif isinstance(form, frozenset):
        if value not in form:
            yield f"{place} is {value!r}, which is none of {sorted(form)}"
    elif isinstance(form, type):
        if not isinstance(value, form) or (form is int and isinstance(value, bool)):
            yield f"{place} is no {form.__name__}: {value!r}"
    elif not form(value):
        yield f"{place} is not {form.__name__}: {value!r}"
