"""Reading an OpenAPI 3.0 or 3.1 description: JSON or YAML, bounded, with references into itself only.

It knows nothing of tools; `tools` makes them. Nothing that a description refers to is ever fetched.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast
from urllib.parse import unquote, urljoin

from registry.openapi.errors import DescriptionInvalid

MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 1_000_000
"""Values in a description, counting what YAML's aliases repeat as often as it is repeated."""
MAX_HOPS = 16
"""References that lead to references."""

Node = dict[str, Any]


class Description:
    """A description.

    Args:
        root: the document.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self.is_30 = str(root.get("openapi", "")).startswith("3.0")

    @property
    def title(self) -> str:
        return str(as_node(self.root.get("info")).get("title") or "")

    @property
    def version(self) -> str:
        return str(as_node(self.root.get("info")).get("version") or "")

    def base_url(self, source: str | None) -> str | None:
        """Where the service is, by its first server; `source` is where the description came from.

        The answer is `None` where that says nothing absolute.
        """
        servers = as_list(self.root.get("servers"))
        first = as_node(servers[0]) if servers else {}
        variables = as_node(first.get("variables"))

        def value(found: re.Match[str]) -> str:
            return str(as_node(variables.get(found[1])).get("default", ""))

        url = re.sub(r"\{([^{}]*)\}", value, str(first.get("url") or "/"))
        if source is not None:
            url = urljoin(source, url)
        return url if url.startswith(("http://", "https://")) else None

    def at(self, reference: str) -> Any:
        """What a reference leads to, or `None`: it leads out of the document, or to nothing."""
        if not reference.startswith("#"):
            return None
        value: Any = self.root
        for step in reference[1:].split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict):
                value = cast("Node", value).get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(cast("list[Any]", value)):
                value = cast("list[Any]", value)[int(name)]
            else:
                return None
        return value

    def resolved(self, value: Any) -> Node:
        """An object, through its references. Empty where they lead to nothing."""
        for _ in range(MAX_HOPS):
            node = as_node(value)
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            value = self.at(reference)
        return {}


def read(text: str) -> Description:
    """A description from its text.

    Raises:
        DescriptionInvalid: neither JSON nor YAML, too large, or not OpenAPI 3.0 or 3.1.
    """
    if len(text.encode()) > MAX_BYTES:
        raise DescriptionInvalid(f"The description is larger than {MAX_BYTES // 1024 // 1024} MiB.")
    try:
        value = json.loads(text)
    except ValueError:
        value = _yaml(text)
    except RecursionError:
        raise DescriptionInvalid("The description is nested too deep.") from None
    return of(value)


def of(value: Any) -> Description:
    """A description from its parsed document. Raises as `read`."""
    _count(value)
    if not isinstance(value, dict):
        raise DescriptionInvalid("The description is not an object with the key openapi.")
    root = cast("Node", value)
    said = root.get("openapi")
    if "swagger" in root:
        raise DescriptionInvalid("This is Swagger 2.0: convert it to OpenAPI 3 first.")
    if not isinstance(said, str) or not said.startswith(("3.0", "3.1")):
        raise DescriptionInvalid(f"The description must be OpenAPI 3.0 or 3.1; it says {str(said)[:40]!r}.")
    return Description(root)


def as_node(value: Any) -> Node:
    return cast("Node", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _yaml(text: str) -> Any:
    import yaml  # only where a description is imported

    try:
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe either way
        _count(value)
        # YAML has keys and values that JSON has not, such as the number 200 and dates; they become text.
        return json.loads(json.dumps(value, default=str))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        why = str(getattr(error, "problem", "") or "")[:200]
        raise DescriptionInvalid(f"The description is neither JSON nor YAML. {why}".strip()) from None


def _count(value: Any) -> None:
    """Bound what walking through `value` can cost; YAML's aliases can make a small text endless."""
    waiting: list[Any] = [value]
    seen = 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen + len(waiting) > MAX_NODES:
            raise DescriptionInvalid(f"The description has more than {MAX_NODES} values.")
        if isinstance(item, dict):
            waiting.extend(cast("Node", item).values())
        elif isinstance(item, list):
            waiting.extend(cast("list[Any]", item))
