"""The catalog: a name leads to one thing and no other, every page is seen once, and each grant sees its own."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mcp import catalog as catalog_module
from gateway.mcp import protocol
from gateway.mcp.catalog import PAGE
from gateway.mcp.definitions import read_definition
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.uri_templates import MAX_URI, UriTemplate
from tests.gateway.mcp.made import catalog, offer, principal

slugs = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
names = st.one_of(
    st.sampled_from(["a", "b", "c", "_", "__", "b__c", "a__b__c", "x" * 70, "x" * 71, "_c"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
)
fleets = st.dictionaries(slugs, st.lists(names, unique=True, max_size=5), min_size=1, max_size=4)


@given(fleets)
def test_no_two_tools_are_ever_confused(fleet: dict[str, list[str]]) -> None:
    view = catalog(*(offer(slug, tool=tools) for slug, tools in fleet.items())).view(None, principal())
    assert view is not None
    listed = [tool["name"] for tool in json.loads(view.page("tool", None, modern=True))["tools"]]
    assert len(set(listed)) == len(listed)
    reached = set()
    for name in listed:
        assert len(name) <= protocol.MAX_NAME if len(name) > 64 else True
        entry = view.find("tool", name)
        assert entry is not None
        assert entry.name in fleet[entry.server.slug]
        if len(f"{entry.server.slug}__{entry.name}") <= 64:
            assert name == f"{entry.server.slug}__{entry.name}"
        reached.add((entry.server.slug, entry.name))
    assert len(reached) == len(listed)
    assert reached == {(slug, tool) for slug, tools in fleet.items() for tool in tools}


def test_the_first_separator_splits() -> None:
    view = catalog(offer("a", tool=["b__c"]), offer("a-b", tool=["c"]), offer("b", tool=["c"])).view(None, principal())
    assert view is not None
    found = {name: view.find("tool", name) for name in ("a__b__c", "a-b__c", "b__c")}
    where = {name: (entry.server.slug, entry.name) for name, entry in found.items() if entry}
    assert where == {"a__b__c": ("a", "b__c"), "a-b__c": ("a-b", "c"), "b__c": ("b", "c")}


def test_long_names_are_cut_and_stay_apart() -> None:
    tools = ["t" * 80 + str(number) for number in range(200)]
    view = catalog(offer("long", tool=tools)).view(None, principal())
    assert view is not None
    exposed = list(view.entries["tool"])
    assert len(set(exposed)) == 200
    assert all(len(name) <= 64 for name in exposed)


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 3 * PAGE])
@pytest.mark.parametrize("modern", [True, False])
def test_paging_visits_each_exactly_once(count: int, modern: bool) -> None:
    tools = [f"tool-{number}" for number in range(count)]
    view = catalog(offer("many", tool=tools)).view("many", principal())
    assert view is not None
    seen: list[str] = []
    cursor = None
    for _ in range(10):
        page = json.loads(view.page("tool", cursor, modern=modern))
        seen += [tool["name"] for tool in page["tools"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert seen == tools


@pytest.mark.parametrize("cursor", ["", "x", "bm9uZQ==", "\x00", "ü", "====", "a" * 10000])
def test_an_unknown_cursor_is_refused(cursor: str) -> None:
    view = catalog(offer("many", tool=["a"])).view(None, principal())
    assert view is not None
    with pytest.raises(ProtocolError) as failed:
        view.page("tool", cursor, modern=True)
    assert failed.value.code == protocol.INVALID_PARAMS


def test_each_grant_sees_its_own_and_nobody_elses_bytes() -> None:
    made = catalog(offer("a", tool=["x", "y"]), offer("b", tool=["x"]))
    wide, narrow = principal(), principal(tools=("a__x",))
    assert [*made.view(None, wide).entries["tool"]] == ["a__x", "a__y", "b__x"]  # type: ignore[union-attr]
    assert [*made.view(None, narrow).entries["tool"]] == ["a__x"]  # type: ignore[union-attr]
    assert made.view(None, wide) is made.view(None, principal(user="u2"))
    assert made.view(None, wide) is not made.view(None, narrow)
    assert made.view("b", narrow).entries["tool"] == {}  # type: ignore[union-attr]
    assert made.view("nothing", wide) is None


def test_views_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_VIEWS", 8)
    made = catalog(offer("a", tool=["x"]))
    for number in range(100):
        made.view(None, principal(tools=(f"{number}",)))
    assert len(made._views) == 8


def find(uri: str, *offers: Any) -> tuple[str, str] | None:
    view = catalog(*offers).view(None, principal())
    assert view is not None
    found = view.find_resource(uri)
    return None if found is None else (found[0].slug, found[1])


@pytest.mark.requirement("resources.uri-validated")
def test_a_resource_is_routed_by_its_listing_its_prefix_or_its_template() -> None:
    a = offer("a", resource=["file:///both", "file:///only"], template=["db://{table}/rows/{id}"])
    b = offer("b", resource=["file:///both"], template=["web://{+url}"])
    assert find("file:///only", a, b) == ("a", "file:///only")
    assert find("a+file:///both", a, b) == ("a", "file:///both")
    assert find("b+file:///both", a, b) == ("b", "file:///both")
    assert find("file:///both", a, b) is None
    assert find("db://users/rows/7", a, b) == ("a", "db://users/rows/7")
    assert find("db://users/rows/", a, b) is None
    assert find("web://x/y?z", a, b) == ("b", "web://x/y?z")
    assert find("b+anything", a, b) == ("b", "anything")
    assert find("unknown://", a) == ("a", "unknown://")


@pytest.mark.parametrize("evil", ["0evil", "evil"])
def test_a_server_cannot_take_the_prefixed_name_of_anothers_resource(evil: str) -> None:
    honest = offer("bank", resource=["file:///x"])
    disguised = offer(evil, resource=["file:///x", "bank+file:///x"], template=["bank+{+any}"])
    assert find("bank+file:///x", honest, disguised) == ("bank", "file:///x")
    assert find("bank+file:///y", honest, disguised) == ("bank", "file:///y")
    assert find(f"{evil}+bank+file:///x", honest, disguised) == (evil, "bank+file:///x")


# -- templates

parts = st.lists(st.sampled_from(["{a}", "{+b}", "{?c}", "/", "x", "xx", "a/b", "."]), max_size=6)
uris = st.text("x/ab.?", max_size=10)
REGEX = {"{a}": ".+", "{+b}": ".+", "{?c}": ".+"}
STRICT = {"{a}": "[^/?#]+", "{+b}": ".+", "{?c}": ".*"}


@given(parts, uris, st.booleans())
def test_templates_match_as_their_regular_expressions_would(pieces: list[str], uri: str, strict: bool) -> None:
    made = STRICT if strict else REGEX
    pattern = "".join(made.get(piece, re.escape(piece)) for piece in pieces)
    assert UriTemplate("".join(pieces), strict=strict).matches(uri) is (
        re.fullmatch(pattern, uri, re.DOTALL) is not None
    )


@pytest.mark.parametrize("strict", [True, False])
def test_no_template_makes_matching_slow(strict: bool) -> None:
    template = UriTemplate("{a}" * 30 + "{+b}x" * 30 + "!", strict=strict)
    began = time.process_time()
    assert not template.matches("x" * MAX_URI)
    assert not template.matches("x" * 1_000_000)
    # A regular expression with as many wildcards would not come back within a lifetime.
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"name":"x","inputSchema":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"name":"x","inputSchema":{"x-mcp-header":"A","n":' + "9" * 5000 + "}}",
        '{"name":"x","inputSchema":{"x-mcp-header":' + '{"a":' * 900 + "1" + "}" * 900 + "}}",
    ],
    ids=range(7),
)
def test_a_definition_that_cannot_be_read_is_left_out_alone(text: str) -> None:
    assert read_definition("tool", "x", text) is None


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=5))
def test_unknown_members_of_a_definition_survive(more: dict[str, Any]) -> None:
    fields = {**more, "name": "own"}
    definition = read_definition("tool", "own", json.dumps(fields))
    assert definition is not None
    for modern in (True, False):
        listed = json.loads(definition.listed("s__own", modern=modern))
        assert {**fields, "name": "s__own"} == {**listed, **({k: fields[k] for k in fields.keys() - listed.keys()})}
        assert fields.keys() - listed.keys() <= {"outputSchema"}
