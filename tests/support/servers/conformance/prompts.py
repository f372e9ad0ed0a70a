"""The prompts, by the names that the suite's scenarios get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.support.servers.conformance import forms
from tests.support.servers.conformance.call import Call, Json
from tests.support.servers.conformance.media import PNG
from tests.support.servers.conformance.offer import Offer

Messages = list[Json]


@dataclass(frozen=True)
class Prompt:
    name: str
    description: str
    arguments: tuple[str, ...]
    messages: Callable[[Call], Awaitable[Messages]]

    def definition(self) -> Json:
        needed = [{"name": name, "description": f"The {name}", "required": True} for name in self.arguments]
        return {"name": self.name, "description": self.description, "arguments": needed}


def _says(content: Json) -> Json:
    return {"role": "user", "content": content}


def _text(words: str) -> Json:
    return _says({"type": "text", "text": words})


async def _simple(call: Call) -> Messages:
    return [_text("This is a simple prompt for testing.")]


async def _with_arguments(call: Call) -> Messages:
    return [_text(f"Prompt with arguments: arg1='{call.arguments['arg1']}', arg2='{call.arguments['arg2']}'")]


async def _with_resource(call: Call) -> Messages:
    resource = {
        "uri": call.arguments["resourceUri"],
        "mimeType": "text/plain",
        "text": "Embedded resource content for testing.",
    }
    return [
        _says({"type": "resource", "resource": resource}),
        _text("Please process the embedded resource above."),
    ]


async def _with_image(call: Call) -> Messages:
    return [_says({"type": "image", "data": PNG, "mimeType": "image/png"}), _text("Please analyze the image above.")]


async def _with_input(call: Call) -> Messages:
    question = forms.elicit("What context should the prompt use?", {"context": {"type": "string"}})
    answer = (await call.ask({"user_context": question}))["user_context"]
    return [_text(f"Work in this context: {answer.get('content', {}).get('context')}")]


PROMPTS = {
    prompt.name: prompt
    for prompt in (
        Prompt("test_simple_prompt", "Says a sentence.", (), _simple),
        Prompt("test_prompt_with_arguments", "Repeats its arguments.", ("arg1", "arg2"), _with_arguments),
        Prompt("test_prompt_with_embedded_resource", "Holds a resource.", ("resourceUri",), _with_resource),
        Prompt("test_prompt_with_image", "Holds a picture.", (), _with_image),
        Prompt("test_input_required_result_prompt", "Asks the user for its context.", (), _with_input),
        Prompt("test_dynamic_prompt", "Is there after every other change.", (), _simple),
    )
}


def listed(offer: Offer) -> list[Prompt]:
    return [prompt for name, prompt in PROMPTS.items() if name != "test_dynamic_prompt" or offer.changed_prompts]
