"""Names in a set: whatever servers offer, no name leads to another server than it says."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from registry.servers.connection import KINDS, Kind
from registry.servers.names import MAX_NAME
from registry.sets.members import Member
from registry.sets.resolve import resolve

SLUGS = ("a", "b", "a-b", "gatehouse")

# Few words, so that they meet; with everything in them that could be taken for a separator.
words = st.sampled_from(
    ["a", "b", "x", "a__x", "b__x", "a__b__x", "__x", "a_", "a-b__x", "a+x", "b+x", "a+b+x", "x" * 70]
)
offered = st.lists(st.tuples(st.sampled_from(KINDS), words), unique=True, max_size=12)
offers = st.dictionaries(st.sampled_from(SLUGS), offered)
new_names = st.none() | st.sampled_from(["a", "b", "x", "y", "_x", "x_"])


@st.composite
def named(draw: st.DrawFn) -> dict[str, str]:
    made = {"name": draw(words)}
    new_name = draw(new_names)
    return made if new_name is None else {**made, "as": new_name}


@st.composite
def members(draw: st.DrawFn) -> Member:
    made: dict[str, object] = {"server": draw(st.sampled_from(SLUGS))}
    for field, choice in (("tools", named()), ("resources", words), ("prompts", named())):
        chosen = draw(st.none() | st.lists(choice, max_size=4))
        if chosen is not None:
            made[field] = chosen
    return Member.model_validate(made)


@given(st.lists(members(), min_size=1, max_size=4), offers)
def test_a_name_means_one_thing_and_the_server_that_it_says(
    chosen_members: list[Member], offered_by: Mapping[str, list[tuple[Kind, str]]]
) -> None:
    resolution = resolve(chosen_members, offered_by)
    slugs = {member.server for member in chosen_members}
    seen: set[tuple[str, str]] = set()
    for chosen in resolution.chosen:
        # It is really there, and the set chose it.
        assert (chosen.kind, chosen.name) in offered_by[chosen.server]
        assert chosen.server in slugs
        # It is the only one of its name.
        assert (chosen.kind, chosen.exposed) not in seen
        seen.add((chosen.kind, chosen.exposed))
        # A name that begins with a server's slug is that server's.
        separator = "+" if chosen.kind in ("resource", "template") else "__"
        head, found, rest = chosen.exposed.partition(separator)
        if found and head in slugs:
            assert head == chosen.server
            own = chosen.choice.new_name if chosen.choice is not None and chosen.choice.new_name else chosen.name
            assert rest == own or len(chosen.exposed) == MAX_NAME


@given(st.lists(members(), min_size=1, max_size=4), offers, st.data())
def test_the_first_in_order_keeps_its_name_whatever_comes_after(
    chosen_members: list[Member], offered_by: Mapping[str, list[tuple[Kind, str]]], data: st.DataObject
) -> None:
    before = resolve(chosen_members, offered_by).chosen
    last = chosen_members[-1].server
    if any(member.server == last for member in chosen_members[:-1]):
        return
    more = data.draw(offered)
    changed = {
        **offered_by,
        last: [*offered_by.get(last, []), *(item for item in more if item not in offered_by.get(last, []))],
    }
    after = {(item.kind, item.exposed): item for item in resolve(chosen_members, changed).chosen}
    for item in before:
        if item.server != last:
            assert after[item.kind, item.exposed] == item


@given(st.lists(members(), min_size=1, max_size=4), offers)
def test_everything_chosen_is_shown_or_said_to_be_missing(
    chosen_members: list[Member], offered_by: Mapping[str, list[tuple[Kind, str]]]
) -> None:
    resolution = resolve(chosen_members, offered_by)
    shown = {(item.server, item.name) for item in resolution.chosen}
    missing = {(item.server, item.name) for item in resolution.missing}
    for member in chosen_members:
        if member.server not in offered_by:
            assert (member.server, None) in missing
            continue
        for choice in (*(member.tools or ()), *(member.resources or ()), *(member.prompts or ())):
            assert (member.server, choice.name) in shown | missing
