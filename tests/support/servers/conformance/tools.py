"""The tools, by the names that the suite's scenarios call.

Each takes the call and the server's offer, and returns content blocks or a whole result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from tests.support.servers.conformance import forms, tasks
from tests.support.servers.conformance.call import Call, Json
from tests.support.servers.conformance.media import PNG, WAV
from tests.support.servers.conformance.offer import Offer

STEP_SECONDS = 0.05
"""Between the steps of a tool that shows its progress, as the scenarios want it."""
WATCHED = "test://watched-resource"

Content = list[Json]
Run = Callable[[Call, Offer], Awaitable[Content | Json]]
NO_ARGUMENTS: Json = {"type": "object", "properties": {}}


class ToolFailed(Exception):
    """The tool ran and failed: a result with `isError`."""


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    schema: Json
    run: Run

    def definition(self) -> Json:
        return {"name": self.name, "description": self.description, "inputSchema": self.schema}


TOOLS: dict[str, Tool] = {}


def tool(name: str, description: str, schema: Json = NO_ARGUMENTS) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        TOOLS[name] = Tool(name, description, schema, run)
        return run

    return register


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def _takes(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


# -- content


@tool("test_simple_text", "Answers with a line of text.")
async def simple_text(call: Call, offer: Offer) -> Content:
    return [text("This is a simple text response for testing.")]


@tool("test_image_content", "Answers with a picture.")
async def image(call: Call, offer: Offer) -> Content:
    return [{"type": "image", "data": PNG, "mimeType": "image/png"}]


@tool("test_audio_content", "Answers with a sound.")
async def audio(call: Call, offer: Offer) -> Content:
    return [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]


def _embedded(uri: str, kind: str, words: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


@tool("test_embedded_resource", "Answers with a resource inside.")
async def embedded_resource(call: Call, offer: Offer) -> Content:
    return [_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool("test_multiple_content_types", "Answers with text, a picture and a resource.")
async def multiple_content_types(call: Call, offer: Offer) -> Content:
    picture = {"type": "image", "data": PNG, "mimeType": "image/png"}
    resource = _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return [text("Multiple content types test:"), picture, resource]


@tool("test_error_handling", "Always fails.")
async def error_handling(call: Call, offer: Offer) -> Content:
    raise ToolFailed("This tool intentionally returns an error for testing")


# -- on the way to the answer


@tool("test_tool_with_progress", "Tells its progress in three steps.")
async def with_progress(call: Call, offer: Offer) -> Content:
    for done in (0, 50, 100):
        await call.progress(done, 100)
        await anyio.sleep(STEP_SECONDS)
    return [text("progress is complete")]


@tool("test_tool_with_logging", "Logs three lines.")
async def with_logging(call: Call, offer: Offer) -> Content:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await _log(call, offer, line)
        await anyio.sleep(STEP_SECONDS)
    return [text("three lines logged")]


@tool("test_logging_tool", "Logs a line, if the request asks for logs.")
async def logging_tool(call: Call, offer: Offer) -> Content:
    await _log(call, offer, "a line of the log")
    return [text("logged")]


async def _log(call: Call, offer: Offer, line: str) -> None:
    if offer.wants_log(call.ctx, "info"):
        await call.ctx.session.send_log_message("info", line, related_request_id=call.ctx.request_id)


@tool("test_reconnection", "Lets go of the answer's stream before it answers.")
async def reconnection(call: Call, offer: Offer) -> Content:
    if call.ctx.close_sse_stream is not None:
        # What has been written to the stream by now must have gone out: closing drops it.
        await anyio.sleep(2 * STEP_SECONDS)
        await call.ctx.close_sse_stream()
        await anyio.sleep(2 * STEP_SECONDS)
    return [text("answered after the reconnection")]


# -- cancelling


@tool("wait", "Waits until it is cancelled.")
async def wait(call: Call, offer: Offer) -> Content:
    offer.waiting += 1
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        offer.cancelled += 1
        raise
    finally:
        offer.waiting -= 1


@tool("waits", "Tells how many calls of `wait` go on and how many were cancelled.")
async def waits(call: Call, offer: Offer) -> Content:
    return [text(f"waiting={offer.waiting} cancelled={offer.cancelled}")]


# -- changes


@tool("test_trigger_tool_change", "Adds a tool to the list, or takes it away again.")
async def trigger_tool_change(call: Call, offer: Offer) -> Content:
    await offer.change_tools()
    return [text("the list of tools has changed")]


@tool("test_trigger_prompt_change", "Adds a prompt to the list, or takes it away again.")
async def trigger_prompt_change(call: Call, offer: Offer) -> Content:
    await offer.change_prompts()
    return [text("the list of prompts has changed")]


@tool("test_trigger_resource_update", "Changes the watched resource.")
async def trigger_resource_update(call: Call, offer: Offer) -> Content:
    await offer.update_resource(WATCHED)
    return [text("the watched resource has changed")]


# -- schemas and headers

_STRING: Json = {"type": "string"}
_SCHEMA_2020_12: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _STRING, "city": _STRING}}
    },
    "properties": {
        "name": _STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": _STRING,
        "email": _STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@tool("json_schema_2020_12_tool", "Has a schema with the words of JSON Schema 2020-12.", _SCHEMA_2020_12)
async def json_schema(call: Call, offer: Offer) -> Content:
    return [text(f"called with {', '.join(sorted(call.arguments))}")]


_MIRRORED: Json = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "priority": {"type": "integer", "x-mcp-header": "Priority"},
        "query": _STRING,
    },
    "required": ["region"],
}


@tool("test_x_mcp_header", "Has parameters that travel as headers too.", _MIRRORED)
async def x_mcp_header(call: Call, offer: Offer) -> Content:
    return [text(f"region={call.arguments.get('region')}")]


# -- input from the client


@tool("test_missing_capability", "Needs a client that can sample.")
async def missing_capability(call: Call, offer: Offer) -> Content:
    call.require("sampling")
    return [text("the client can sample")]


@tool("test_sampling", "Has the client's model answer a prompt.", _takes(prompt=_STRING))
async def sampling(call: Call, offer: Offer) -> Content:
    answers = await call.ask({"answer": forms.sample(call.arguments["prompt"], 100)})
    return [text(f"LLM response: {_sampled(answers['answer'])}")]


@tool("test_elicitation", "Asks the user for a name and an address.", _takes(message=_STRING))
async def elicitation(call: Call, offer: Offer) -> Content:
    user = {"username": _STRING, "email": _STRING}
    return await _elicited(call, forms.elicit(call.arguments["message"], user), "User response")


@tool("test_streaming_elicitation", "Asks the user to confirm.")
async def streaming_elicitation(call: Call, offer: Offer) -> Content:
    return await _elicited(call, forms.elicit("Shall it go on?", {"ok": {"type": "boolean"}}), "User response")


@tool("elicitation_by_url", "Sends the user to a page.")
async def elicitation_by_url(call: Call, offer: Offer) -> Content:
    return await _elicited(call, forms.elicit_by_url("Please look at this.", "https://example.com/page"))


@tool("test_elicitation_sep1034_defaults", "Asks with a default value of every type.")
async def elicitation_defaults(call: Call, offer: Offer) -> Content:
    return await _elicited(call, forms.elicit("Please check these.", forms.DEFAULTS, required=[]))


@tool("test_elicitation_sep1330_enums", "Asks with every kind of choice.")
async def elicitation_enums(call: Call, offer: Offer) -> Content:
    return await _elicited(call, forms.elicit("Please choose.", forms.CHOICES, required=[]))


async def _elicited(call: Call, form: Json, words: str = "Elicitation completed") -> Content:
    answer = (await call.ask({"form": form}))["form"]
    return [text(f"{words}: action={answer['action']}, content={answer.get('content')}")]


def _sampled(answer: Json) -> str:
    content = answer["content"]
    return content["text"] if isinstance(content, dict) else " ".join(block.get("text", "") for block in content)


@tool("test_input_required_result_elicitation", "Greets the user, whose name it asks for.")
async def input_elicitation(call: Call, offer: Offer) -> Content:
    answers = await call.ask({"user_name": forms.ASK_NAME})
    return [text(f"Hello, {answers['user_name'].get('content', {}).get('name')}!")]


@tool("test_input_required_result_sampling", "Has the client's model name a capital.")
async def input_sampling(call: Call, offer: Offer) -> Content:
    answers = await call.ask({"capital_question": forms.sample("What is the capital of France?", 100)})
    return [text(_sampled(answers["capital_question"]))]


@tool("test_input_required_result_list_roots", "Names the client's roots.")
async def input_list_roots(call: Call, offer: Offer) -> Content:
    answers = await call.ask({"client_roots": forms.ROOTS})
    return [text(_roots(answers["client_roots"]))]


def _roots(answer: Json) -> str:
    return " ".join(root["uri"] for root in answer["roots"])


@tool("test_input_required_result_request_state", "Has the client carry its state.")
async def input_request_state(call: Call, offer: Offer) -> Content:
    await call.ask({"confirm": forms.CONFIRM}, with_state=True)
    return [text("state-ok")]


@tool("test_input_required_result_tampered_state", "Has the client carry its state, which must not be altered.")
async def input_tampered_state(call: Call, offer: Offer) -> Content:
    await call.ask({"confirm": forms.CONFIRM}, with_state=True)
    return [text("the state is as it was")]


@tool("test_input_required_result_multiple_inputs", "Asks three things at once.")
async def input_multiple(call: Call, offer: Offer) -> Content:
    asked = {
        "user_name": forms.ASK_NAME,
        "greeting": forms.sample("Generate a greeting", 50),
        "client_roots": forms.ROOTS,
    }
    answers = await call.ask(asked, with_state=True)
    name = answers["user_name"].get("content", {}).get("name")
    return [text(f"{_sampled(answers['greeting'])} {name} {_roots(answers['client_roots'])}")]


@tool("test_input_required_result_multi_round", "Asks one thing after the other.")
async def input_multi_round(call: Call, offer: Offer) -> Content:
    name = await call.ask({"step1": forms.elicit("Step 1: What is your name?", {"name": _STRING})}, with_state=True)
    colour = await call.ask(
        {"step2": forms.elicit("Step 2: What is your favorite color?", {"color": _STRING})}, with_state=True
    )
    return [text(f"{name['step1'].get('content')} {colour['step2'].get('content')}")]


@tool("test_input_required_result_capabilities", "Asks only what the client declares that it can answer.")
async def input_capabilities(call: Call, offer: Offer) -> Content:
    possible = {"elicitation": forms.ASK_NAME, "sampling": forms.sample("Say something", 50), "roots": forms.ROOTS}
    declared = call.declared()
    answers = await call.ask({key: request for key, request in possible.items() if key in declared})
    return [text(f"answered: {', '.join(sorted(answers))}")]


@tool("test_dynamic_tool", "Is there after every other change.")
async def dynamic(call: Call, offer: Offer) -> Content:
    return [text("still there")]


@tool("greet", "Greets by name, at once.", _takes(name=_STRING))
async def greet(call: Call, offer: Offer) -> Content:
    return [text(f"Hello, {call.arguments['name']}!")]


def _as_task(name: str) -> Run:
    async def run(call: Call, offer: Offer) -> Json:
        return await offer.tasks.call(name, call)

    return run


for _name, _tool in tasks.TOOLS.items():
    tool(_name, _tool.description, _tool.schema)(_as_task(_name))


def listed(offer: Offer) -> list[Tool]:
    return [entry for name, entry in TOOLS.items() if name != "test_dynamic_tool" or offer.changed_tools]


async def run(name: str, call: Call, offer: Offer) -> dict[str, Any] | None:
    """The result of a listed tool, None where there is none of that name."""
    entry = next((entry for entry in listed(offer) if entry.name == name), None)
    if entry is None:
        return None
    try:
        made = await entry.run(call, offer)
    except ToolFailed as failure:
        return {"content": [text(str(failure))], "isError": True}
    return made if isinstance(made, dict) else {"content": made}
