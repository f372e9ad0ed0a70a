"""What a set is made of: chosen tools, resources and prompts of servers, and how they are shown there.

Plain values that REST, MCP tools, the stored record and the data path share. Which of them exist, and under which
names, is `registry.sets.resolve`; how calls are changed on their way is the data path's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from registry.servers.names import MAX_NAME

MAX_CHOICES = 1000
MAX_MEMBERS = 100

_Text = Annotated[str, Field(max_length=10_000)]
_Name = Annotated[str, Field(min_length=1, max_length=2048)]
_NewName = Annotated[
    str,
    Field(
        # `__` is kept for names that begin with their server's slug.
        pattern=r"^_?(?:[A-Za-z0-9.-]+_?)*$",
        min_length=1,
        max_length=MAX_NAME,
        description="Another name: up to 64 letters, digits, dots, hyphens and single underscores.",
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    def has(self, field: str) -> bool:
        """Whether the field was given, be it as null."""
        return field in self.model_fields_set


class Parameter(_Part):
    """How one parameter of a tool is changed."""

    hide: bool = Field(False, description="Callers neither see nor give it.")
    fixed: JsonValue = Field(None, description="The gateway always gives this value; callers may not.")
    default: JsonValue = Field(None, description="The gateway gives this value where the caller gives none.")
    description: _Text | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Parameter:
        if self.has("fixed") and self.has("default"):
            raise ValueError("give either fixed or default, not both")
        if self.hidden and self.description is not None:
            raise ValueError("nobody would see the description of a parameter that is hidden or fixed")
        return self

    @property
    def hidden(self) -> bool:
        return self.hide or self.has("fixed")

    @property
    def filled(self) -> bool:
        """Whether the gateway gives a value where the caller gives none."""
        return self.has("fixed") or self.has("default")

    @property
    def value(self) -> JsonValue:
        """What the gateway gives, if it is `filled`."""
        return self.fixed if self.has("fixed") else self.default


class ToolChoice(_Part):
    """A tool, and how it differs in the set."""

    name: _Name = Field(description="The server's own name for it.")
    new_name: _NewName | None = Field(None, alias="as")
    title: _Text | None = None
    description: _Text | None = None
    annotations: dict[str, JsonValue] = Field(
        default_factory=dict[str, JsonValue], description="Replace the server's own, one by one; null removes one."
    )
    parameters: dict[str, Parameter] = Field(default_factory=dict[str, Parameter])

    @property
    def changes(self) -> bool:
        """Whether anything but the name differs."""
        return bool(self.title is not None or self.description is not None or self.annotations or self.parameters)


class PromptChoice(_Part):
    """A prompt, and how it differs in the set."""

    name: _Name = Field(description="The server's own name for it.")
    new_name: _NewName | None = Field(None, alias="as")
    title: _Text | None = None
    description: _Text | None = None

    @property
    def changes(self) -> bool:
        return self.title is not None or self.description is not None


class ResourceChoice(_Part):
    """A resource or a resource template. It keeps its URI."""

    uri: _Name = Field(description="The URI, or the URI template.")
    title: _Text | None = None
    description: _Text | None = None

    @property
    def name(self) -> str:
        return self.uri

    @property
    def new_name(self) -> None:
        return None

    @property
    def changes(self) -> bool:
        return self.title is not None or self.description is not None


Choice = ToolChoice | PromptChoice | ResourceChoice


def _or_text(field: str) -> BeforeValidator:
    """Lets a choice that changes nothing be written as its name alone."""
    return BeforeValidator(lambda given: {field: given} if isinstance(given, str) else given)


class Member(_Part):
    """A server in a set. Of each kind: what is not said at all is taken whole, an empty list is nothing."""

    server: Annotated[str, Field(min_length=1, max_length=32, description="Slug of the server.")]
    tools: Annotated[list[Annotated[ToolChoice, _or_text("name")]], Field(max_length=MAX_CHOICES)] | None = None
    resources: Annotated[list[Annotated[ResourceChoice, _or_text("uri")]], Field(max_length=MAX_CHOICES)] | None = None
    prompts: Annotated[list[Annotated[PromptChoice, _or_text("name")]], Field(max_length=MAX_CHOICES)] | None = None

    def stored(self) -> dict[str, Any]:
        """As it is kept and shown: only what was given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


Members = Annotated[list[Member], Field(min_length=1, max_length=MAX_MEMBERS)]


@dataclass(frozen=True, slots=True)
class SetOffer:
    """A set as the data path compiles it."""

    org_id: str
    slug: str
    name: str
    description: str | None
    public: bool
    members: tuple[Member, ...]


def problems(choice: ToolChoice, definition: str) -> Iterator[str]:
    """What of the choice does not fit the tool's definition, as sentences."""
    schema = _object(_object(msgspec.json.decode(definition)).get("inputSchema"))
    known = _object(schema.get("properties"))
    required = schema.get("required")
    for name, parameter in choice.parameters.items():
        if known and name not in known:
            yield f"The tool {choice.name!r} has no parameter {name!r}: it has {', '.join(known)}."
        elif parameter.hidden and not parameter.filled and isinstance(required, list) and name in required:
            yield f"The parameter {name!r} of {choice.name!r} is required: to hide it, give fixed or default."


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
