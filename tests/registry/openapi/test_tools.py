"""Tools from descriptions: schemas that stand alone, names, choices, and what is cut off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.openapi.description import of, read
from registry.openapi.errors import DescriptionInvalid
from registry.openapi.tools import Choice, make_tools
from tests.gateway.mcp.upstream.pets import description


def tools(document: dict[str, Any], **choice: Any) -> dict[str, Any]:
    made = make_tools(of(document), Choice(**choice))
    return {operation.tool: json.loads(operation.definition) for operation in made.operations}


def with_schema(schema: Any, version: str = "3.1.0") -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": schema}}}
    return {"openapi": version, "info": {}, "paths": {"/x": {"post": {"operationId": "x", "requestBody": body}}}}


def test_recursive_schemas_stay_references_within_the_tool() -> None:
    schema = tools(description())["putPet"]["inputSchema"]
    assert schema["properties"]["body"] == {"$ref": "#/$defs/Pet"}
    pet = schema["$defs"]["Pet"]["properties"]
    assert pet["friends"]["items"] == {"$ref": "#/$defs/Pet"}
    # What 3.0 writes in its own way.
    assert pet["nick"]["type"] == ["string", "null"]
    assert (pet["age"]["exclusiveMinimum"], "minimum" in pet["age"]) == (0, False)
    assert schema["required"] == ["petId", "body"]


def test_an_object_answer_gives_an_output_schema_with_an_object_at_its_root() -> None:
    made = tools(description())
    assert made["getPet"]["outputSchema"]["type"] == "object"
    assert made["getPet"]["outputSchema"]["$defs"]["Pet"]["required"] == ["name"]
    assert "outputSchema" not in made["get_pets"]


@pytest.mark.parametrize("reference", ["http://127.0.0.1:1/s.json", "other.yaml#/Pet", "#/components/schemas/No"])
def test_references_out_of_the_description_are_cut_off(reference: str) -> None:
    made = make_tools(of(with_schema({"type": "object", "properties": {"a": {"$ref": reference}}})), Choice())
    schema = json.loads(made.operations[0].definition)["inputSchema"]
    assert schema["properties"]["body"]["properties"]["a"] == {}
    assert "lead nowhere" in made.warnings[0]


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    assert len(json.dumps(tools(with_schema(schema)))) < 5000


def test_names_are_unique_and_fit() -> None:
    paths = {f"/x{number}": {"get": {"operationId": "a b/ü" + "x" * 100}} for number in range(3)}
    names = list(tools({"openapi": "3.1.0", "paths": paths}))
    assert len(set(names)) == 3
    assert all(len(name) <= 64 and name.isascii() for name in names)


def test_operations_are_chosen_by_id_tag_and_method() -> None:
    assert set(tools(description(), include=("tag:write",))) == {"putPet", "deletePet"}
    assert set(tools(description(), include=("GET /pets/*", "DELETE"))) == {"getPet", "deletePet"}
    assert "getPet" not in tools(description(), exclude=("get?et",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: &a [*a]",
        '{"openapi": "2.0"}',
        "openapi: 3.1.0\nx: !!python/object/apply:os.system [true]",
        # Ten aliases of ten, nine times over: a thousand million values in a few lines.
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    ],
)
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DescriptionInvalid):
        read(text)


def test_yaml_keys_become_text() -> None:
    found = read("openapi: 3.1.0\npaths:\n  /x:\n    get:\n      responses:\n        200: {description: ok}\n")
    assert make_tools(found, Choice()).operations[0].tool == "get_x"


def test_the_first_servers_variables_are_filled_in() -> None:
    assert of(description()).base_url(None) == "https://pets.example/v2"
    assert of(description(servers=[])).base_url(None) is None
    assert (
        of(description(servers=[{"url": "../v3"}])).base_url("https://a.example/docs/api.json")
        == "https://a.example/v3"
    )
