"""What is suspicious about the text of a definition: characters nobody sees, and names that pass for others.

Pure functions of text. What follows from a flag is decided by `registry.pins.judge`. Sources: Unicode TS 39
(mixed scripts, confusables), TR 9 (bidirectional controls).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any, cast

_LINE_ENDS_AND_TABS = frozenset("\t\n\r")
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that are letters or marks to Unicode and nothing to the eye."""
_JOINERS = frozenset("\u200c\u200d")
_SELECTORS = range(0xFE00, 0xFE10)
_MORE_SELECTORS = range(0xE0100, 0xE01F0)
_ONE_WRITING = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})

_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d\u043a\u0433"  # Cyrillic
    "\u03bf\u03b1\u03bd\u03c1\u03b9\u03ba\u03c4\u03c5\u03b3"  # Greek
    "\u0131\u0261\u0251"  # further Latin
    "01I|",
    "aeopcyxijsdhlqwkr" + "oavpiktuy" + "iga" + "olll",
)


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value: names of members and values, at any depth."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            members = cast("dict[str, Any]", found)
            yield from members
            waiting.extend(members.values())
        elif isinstance(found, list):
            waiting.extend(cast("list[Any]", found))


def invisible(text: str) -> list[str]:
    """The characters that a person would not see, or that change the order of others: like `U+202E`, sorted."""
    if text.isascii() and text.isprintable():
        return []
    return sorted({f"U+{ord(text[at]):04X}" for at in range(len(text)) if _is_hidden(text, at)})


def made_visible(text: str) -> str:
    """The text with everything invisible written as `<U+202E>`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"<U+{ord(character):04X}>" if _is_hidden(text, at) else character for at, character in enumerate(text)
    )


def _is_hidden(text: str, at: int) -> bool:
    character = text[at]
    code = ord(character)
    if character in _LINE_ENDS_AND_TABS:
        return False
    if character in _JOINERS:
        # They join emoji, and letters of scripts that are written joined; between others they only hide.
        around = text[at - 1 : at] + text[at + 1 : at + 2]
        return len(around) < 2 or any(neighbour.isascii() or neighbour.isspace() for neighbour in around)
    if code in _SELECTORS:
        # One chooses the look of the symbol before it; a row of them carries a message.
        before = text[at - 1 : at]
        return not before or before.isalpha() or before.isspace() or ord(before) in _SELECTORS
    return character in _BLANKS or code in _MORE_SELECTORS or unicodedata.category(character) in ("Cc", "Cf")


def mixed_scripts(name: str) -> list[str]:
    """The scripts of a name's letters, where there is more than one."""
    if name.isascii():
        return []
    found = {_script(character) for character in name if character.isalpha()}
    if found & _ONE_WRITING:
        # Japanese and Korean are written in several of these, and with Latin words among them.
        found -= _ONE_WRITING | {"LATIN"}
    return sorted(found) if len(found) > 1 else []


def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").partition(" ")[0].partition("-")[0]


def look(name: str) -> str:
    """The same for two names that look the same."""
    return unicodedata.normalize("NFKC", name).translate(_LOOKALIKES)
