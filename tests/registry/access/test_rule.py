"""What access rules mean: the first that is about caller and capability decides."""

from __future__ import annotations

import pytest

from registry.access.rule import AccessBook, AccessRule, Effect, What, Who
from registry.identity.principal import Principal
from registry.servers.connection import Kind
from registry.servers.names import prefixed


def principal(user: str | None = "ann", role: str = "user", key: int | None = None) -> Principal:
    return Principal("org", user, role, frozenset(), key_id=key)


def rule(
    effect: Effect, pattern: str, who: Who = "anyone", who_id: str | None = None, what: What = "any"
) -> AccessRule:
    return AccessRule(f"{effect} {pattern}", "n", effect, who, who_id, what, pattern)


def allows(book: AccessBook, who: Principal, name: str, kind: Kind = "tool", server: str = "files") -> bool:
    return book.access_of(who).allows(kind, server, name, lambda *_: False)


@pytest.mark.parametrize(
    ("who", "who_id", "caller", "about"),
    [
        ("anyone", None, principal(), True),
        ("anyone", None, principal(None, "public"), True),
        ("role", "viewer", principal(role="viewer"), True),
        ("role", "viewer", principal(role="user"), False),
        ("user", "ann", principal("ann"), True),
        ("user", "ann", principal("bob"), False),
        ("user", "ann", principal("ann", key=7), True),
        ("key", "7", principal(key=7), True),
        ("key", "7", principal(key=8), False),
        ("key", "7", principal(), False),
        ("team", "red", principal("ann"), True),
        ("team", "red", principal("bob"), False),
        ("team", "red", principal(None, "public"), False),
    ],
)
def test_whom_a_rule_is_about(who: Who, who_id: str | None, caller: Principal, about: bool) -> None:
    book = AccessBook([rule("deny", "*", who, who_id)], [("red", "ann"), ("blue", "bob")])
    assert allows(book, caller, "read") == (not about)


@pytest.mark.parametrize(
    ("what", "pattern", "kind", "name", "about"),
    [
        ("any", "files__*", "tool", "read", True),
        ("any", "files__rea?", "tool", "read", True),
        ("any", "files__*", "prompt", "ask", True),
        ("any", "other__*", "tool", "read", False),
        ("any", "files__READ", "tool", "read", False),
        ("tool", "files__*", "prompt", "ask", False),
        ("prompt", "files__*", "prompt", "ask", True),
        ("resource", "files__*", "template", "file:///{path}", True),
        ("resource", "files__file:///etc/*", "resource", "file:///etc/passwd", True),
        ("resource", "files__file:///etc/*", "resource", "file:///home/a", False),
        ("tool", "files__*", "resource", "file:///a", False),
    ],
)
def test_what_a_rule_is_about(what: What, pattern: str, kind: Kind, name: str, about: bool) -> None:
    book = AccessBook([rule("deny", pattern, what=what)])
    assert allows(book, principal(), name, kind) == (not about)


def test_the_first_rule_decides_and_what_none_names_is_free() -> None:
    book = AccessBook(
        [rule("deny", "files__drop"), rule("allow", "files__*", "team", "red"), rule("deny", "files__*")],
        [("red", "ann")],
    )
    assert [allows(book, principal("ann"), name) for name in ("read", "drop")] == [True, False]
    assert [allows(book, principal("bob"), name) for name in ("read", "drop")] == [False, False]
    assert allows(book, principal("bob"), "read", server="other")
    decided = book.access_of(principal("bob")).deciding("tool", "files", "read", lambda *_: False)
    assert decided is not None
    assert str(decided) == "'n' (deny anyone: files__*)"


def test_a_long_name_is_matched_whole_and_as_it_is_shown() -> None:
    name = "x" * 80 + "secret"
    assert not allows(AccessBook([rule("deny", "files__*secret")]), principal(), name)
    assert not allows(AccessBook([rule("deny", prefixed("files", name))]), principal(), name)
    uri = "file:///" + "deep/" * 30 + "secret.txt"
    assert not allows(AccessBook([rule("deny", "*secret.txt")]), principal(), uri, "resource")


def test_a_set_is_asked_generously_where_it_denies() -> None:
    asked: list[tuple[object, ...]] = []

    def in_set(*question: object) -> bool:
        asked.append(question)
        return True

    for effect in ("allow", "deny"):
        book = AccessBook([AccessRule("1", "n", effect, "anyone", None, set_slug="picked")])
        assert book.access_of(principal()).allows("resource", "files", "a", in_set) == (effect == "allow")
    assert asked == [("picked", "resource", "files", "a", False), ("picked", "resource", "files", "a", True)]


def test_callers_under_the_same_rules_share_what_is_made_for_them() -> None:
    book = AccessBook([rule("deny", "a", "role", "viewer"), rule("deny", "b", "user", "ann")])
    ann, bob, eve = (book.access_of(principal(name)) for name in ("ann", "bob", "eve"))
    assert bob.key == eve.key
    assert ann.key != bob.key
    assert AccessBook().access_of(principal()).key == ()
