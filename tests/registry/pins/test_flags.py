"""What is suspicious about a text, and what only looks foreign."""

from __future__ import annotations

import pytest

from registry.pins.digest import difference, digest_of
from registry.pins.flags import invisible, look, made_visible, mixed_scripts
from registry.pins.shadowing import neighbours_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain\n\ttext", []),
        ("zero\u200bwidth", ["U+200B"]),
        ("a\u200db", ["U+200D"]),
        ("\u202eevil", ["U+202E"]),
        ("\u2066isolated\u2069", ["U+2066", "U+2069"]),
        ("tag\U000e0068\U000e0069", ["U+E0068", "U+E0069"]),
        ("variation\U000e0101", ["U+E0101"]),
        ("\u2600\ufe0f\ufe0e\ufe0f", ["U+FE0E", "U+FE0F"]),
        ("soft\u00adhyphen", ["U+00AD"]),
        ("\u3164", ["U+3164"]),
        ("bell\x07", ["U+0007"]),
        ("\ufeffmark", ["U+FEFF"]),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family, \u2600\ufe0f sun, 1\ufe0f\u20e3 key", []),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", []),
        ("\u00fcml\u00e4ut \u65e5\u672c\u8a9e \u0420\u0443\u0441\u0441\u043a\u0438\u0439", []),
    ],
)
def test_what_nobody_sees_is_found(text: str, found: list[str]) -> None:
    assert invisible(text) == found
    assert all(f"<{code}>" in made_visible(text) for code in found)
    assert bool(found) or made_visible(text) == text


@pytest.mark.parametrize(
    ("name", "scripts"),
    [
        ("read_file", []),
        ("re\u0430d", ["CYRILLIC", "LATIN"]),
        ("\u0447\u0438\u0442\u0430\u0442\u044c", []),
        ("\u8aad\u3080_file", []),
        ("caf\u00e9", []),
    ],
)
def test_scripts_of_a_name(name: str, scripts: list[str]) -> None:
    assert mixed_scripts(name) == scripts


@pytest.mark.parametrize("name", ["re\u0430d_file", "read_fi\uff4ce", "read_fi1e", "r\u0435ad_f\u0131le"])
def test_names_that_look_alike_are_one(name: str) -> None:
    assert look(name) == look("read_file")


def test_others_tools_are_found_in_a_text_and_ordinary_words_are_not() -> None:
    others = neighbours_of([("mail", "send_email"), ("mail", "search"), ("code", "getUser")])
    own = frozenset({"own_tool"})
    assert others.mentioned(["First call send_email."], own) == ["mail__send_email"]
    assert others.mentioned(["See `mail__search`, or getUser()."], own) == ["code__getUser", "mail__search"]
    assert others.mentioned(["search and own_tool are fine"], own) == []
    assert others.mentioned(["send_email"], frozenset({"send_email"})) == []
    assert others.mentioned(["gatehouse__pins_approve"], own) == ["gatehouse__pins_approve"]
    assert others.same_name("search") == ["mail"]
    assert others.lookalike("send_emai1") == "send_email"
    assert others.lookalike("send_email") is None


def test_the_difference_shows_what_is_invisible() -> None:
    before, after = '{"description": "a"}', '{"description": "a\u202e"}'
    assert digest_of(before) != digest_of(after)
    assert difference(before, after).splitlines()[-3:] == [
        '-  "description": "a"',
        '+  "description": "a<U+202E>"',
        " }",
    ]
