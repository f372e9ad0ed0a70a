"""Reads JSON bodies as one thing only: what two parsers could read differently, or could choke on, is refused."""

from __future__ import annotations

import json
import math
from typing import Any, cast

from gateway.api.shared.errors import BadRequest

MAX_DEPTH = 64
_MAX_NUMBER_LENGTH = 64
_LARGEST = 2**63 - 1


def parse(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        BadRequest: it is no JSON, or has duplicate keys, numbers beyond 64 bits, NaN or infinities, NUL characters or
            half surrogates, or is nested more than `MAX_DEPTH` deep.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    # Only an escape can make a character that UTF-8 cannot carry, or a NUL.
    _check(value, texts="\\u" in text)
    return value


_TOO_DEEP = f"The body is nested more than {MAX_DEPTH} levels deep."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BadRequest("The body has an object with the same key twice.")
    return made


def _integer(digits: str) -> int:
    # Counted first: turning a long text into a number is itself what can be abused.
    if len(digits) > _MAX_NUMBER_LENGTH or abs(number := int(digits)) > _LARGEST:
        raise BadRequest("The body has an integer beyond 64 bits.")
    return int(digits) if digits.startswith("-") else number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadRequest("The body has a number that is too large.")
    return number


def _constant(name: str) -> Any:
    raise BadRequest(f"The body has {name}, which is not JSON.")


def _check(value: Any, *, texts: bool) -> None:
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise BadRequest(_TOO_DEEP)
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                members = cast("dict[str, Any]", item)
                inner += members.values()
                if texts:
                    inner += members
            elif isinstance(item, list):
                inner += cast("list[Any]", item)
            elif texts and isinstance(item, str):
                _check_text(item)
        level = inner


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequest("The body has a NUL character or half a surrogate pair.")
