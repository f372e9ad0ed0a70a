"""Taking apart what arrives as JSON without trusting its shape: what is not as expected reads as empty."""

from __future__ import annotations

import json
from typing import Any, cast


def parsed(text: bytes) -> Any:
    """The JSON value; `None` where the text is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def object_in(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_in(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [cast("dict[str, Any]", item) for item in list_in(value) if isinstance(item, dict)]
