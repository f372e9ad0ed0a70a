"""What the server asks its clients, in the protocol's form."""

from __future__ import annotations

from tests.support.servers.conformance.call import Json


def elicit(message: str, properties: Json, *, required: list[str] | None = None) -> Json:
    """A form for the user; every field is required unless said otherwise."""
    wanted = list(properties) if required is None else required
    schema: Json = {"type": "object", "properties": properties}
    if wanted:
        schema["required"] = wanted
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def elicit_by_url(message: str, url: str) -> Json:
    """A page for the user to visit."""
    return {"method": "elicitation/create", "params": {"mode": "url", "message": message, "url": url}}


def sample(prompt: str, max_tokens: int) -> Json:
    """A question to the client's model."""
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": max_tokens}}


ROOTS: Json = {"method": "roots/list", "params": {}}
ASK_NAME = elicit("What is your name?", {"name": {"type": "string"}})
CONFIRM = elicit("Please confirm", {"ok": {"type": "boolean"}})

DEFAULTS: Json = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}

_OPTIONS = ["option1", "option2", "option3"]


def _titled(kind: str) -> list[Json]:
    return [{"const": f"value{n}", "title": f"{name} {kind}"} for n, name in enumerate(("First", "Second", "Third"), 1)]


CHOICES: Json = {
    "untitledSingle": {"type": "string", "enum": _OPTIONS},
    "titledSingle": {"type": "string", "oneOf": _titled("Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice")}},
}
