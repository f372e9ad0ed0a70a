"""Shaping: how a tool, resource or prompt differs in a set from what its server offers.

Compiled into the snapshot beside the server's own definition, which stays what policies and the upstream go by. The
router applies it to a call in one place; what is not shaped never comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gateway.mcp import protocol
from gateway.mcp.definitions import Definition
from gateway.mcp.envelope import Params, ProtocolError, decode_params, encode
from registry.sets.members import ToolChoice

if TYPE_CHECKING:
    from registry.sets.members import Choice, Parameter


class Shaping:
    """What callers see instead of the definition, and what happens to the arguments they send.

    Args:
        shown: the definition as it is listed, and as a client's `Mcp-Param-*` headers are judged.
        fixed: arguments that the gateway always gives.
        defaults: arguments that the gateway gives where the caller does not.
        hidden: arguments that callers may not give.
    """

    __slots__ = ("_defaults", "_fixed", "_hidden", "shown")

    def __init__(
        self,
        shown: Definition,
        fixed: Mapping[str, msgspec.Raw],
        defaults: Mapping[str, msgspec.Raw],
        hidden: frozenset[str],
    ) -> None:
        self.shown = shown
        self._fixed = fixed
        self._defaults = defaults
        self._hidden = hidden

    def apply(self, params: Params) -> Params:
        """The parameters of a call as the server gets them.

        Raises:
            ProtocolError: INVALID_PARAMS for an argument that is not the caller's to give.
        """
        if not (self._fixed or self._defaults or self._hidden):
            return params
        arguments = _arguments(params)
        refused = sorted(self._hidden.intersection(arguments))
        if refused:
            raise ProtocolError(
                protocol.INVALID_PARAMS,
                f"There is no argument {', '.join(refused)} here: see the tool's input schema.",
                data={"arguments": refused},
            )
        return {**params, "arguments": msgspec.Raw(encode({**self._defaults, **arguments, **self._fixed}))}


def shape(definition: Definition, choice: Choice | None) -> Shaping | None:
    """How `choice` changes what is listed and what is sent; `None` where it changes nothing but the name."""
    if choice is None or not choice.changes:
        return None
    fields = dict(definition.fields)
    for name in ("title", "description"):
        text = getattr(choice, name)
        if text is not None:
            fields[name] = msgspec.Raw(encode(text))
    parameters: dict[str, Parameter] = {}
    if isinstance(choice, ToolChoice):
        if choice.annotations:
            fields["annotations"] = msgspec.Raw(encode(_merged(fields.get("annotations"), choice.annotations)))
        parameters = choice.parameters
        if parameters:
            fields["inputSchema"] = msgspec.Raw(encode(_reduced(fields.get("inputSchema"), parameters)))
    values = {name: msgspec.Raw(encode(each.value)) for name, each in parameters.items() if each.filled}
    hidden = frozenset(name for name, each in parameters.items() if each.hidden)
    return Shaping(
        Definition(definition.kind, definition.name, fields, permission=definition.permission),
        fixed={name: value for name, value in values.items() if name in hidden},
        defaults={name: value for name, value in values.items() if name not in hidden},
        hidden=hidden,
    )


def _arguments(params: Params) -> Params:
    raw = params.get("arguments")
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return decode_params(raw)
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError(protocol.INVALID_PARAMS, "params.arguments must be an object.") from None


def _merged(given: msgspec.Raw | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**_object(given), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _reduced(given: msgspec.Raw | None, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The input schema without what is hidden, with the defaults and descriptions of the set."""
    schema = _object(given)
    properties = _named(schema.get("properties"))
    for name, parameter in parameters.items():
        if parameter.hidden:
            properties.pop(name, None)
        elif isinstance(shown := properties.get(name), dict):
            properties[name] = _described(cast("dict[str, Any]", shown), parameter)
    if "properties" in schema:
        schema["properties"] = properties
    required = schema.get("required")
    if isinstance(required, list):
        unasked = {name for name, parameter in parameters.items() if parameter.hidden or parameter.filled}
        schema["required"] = [name for name in cast("list[Any]", required) if name not in unasked]
    return schema


def _described(shown: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    changed = dict(shown)
    if parameter.description is not None:
        changed["description"] = parameter.description
    if parameter.filled:
        changed["default"] = parameter.value
    return changed


def _object(raw: msgspec.Raw | None) -> dict[str, Any]:
    return _named(msgspec.json.decode(raw)) if raw is not None else {}


def _named(value: Any) -> dict[str, Any]:
    return dict(cast("dict[str, Any]", value)) if isinstance(value, dict) else {}
