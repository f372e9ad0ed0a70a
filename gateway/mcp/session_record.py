"""What one process knows of a session beyond its id, as named texts, and what of that is saved.

Processes change a record at the same time; what is saved and what is not yet are kept apart, so that the changes of
one go on top of those of the others. It knows neither what the texts mean (`gateway.mcp.sessions`) nor where they are
saved (`gateway.mcp.session_store`).
"""

from __future__ import annotations

from collections.abc import Callable

from registry.sessions.patch import Fields, Patch

FIRST_WINS = "at:"
"""Of names that begin so, the first value that any process sets is the one."""


class SessionRecord:
    """The texts of one session.

    Args:
        changed: is told when there is something to save.
    """

    __slots__ = ("_changed", "_saved", "fields")

    def __init__(self, changed: Callable[[], None]) -> None:
        self.fields: Fields = {}
        self._saved: Fields = {}
        self._changed = changed

    @property
    def unsaved(self) -> bool:
        return self.fields != self._saved

    def put(self, name: str, value: str) -> None:
        if self.fields.get(name) != value:
            self.fields[name] = value
            self._changed()

    def drop(self, name: str) -> None:
        if self.fields.pop(name, None) is not None:
            self._changed()

    def patch(self, key: str, seconds: float) -> Patch:
        """What is not saved yet, which counts as saved from now on; see `failed`."""
        new = {name: value for name, value in self.fields.items() if self._saved.get(name) != value}
        add = {name: value for name, value in new.items() if name.startswith(FIRST_WINS) and name not in self._saved}
        put = {name: value for name, value in new.items() if name not in add}
        drop = tuple(name for name in self._saved if name not in self.fields)
        self._saved = dict(self.fields)
        return Patch(key, seconds, add, put, drop)

    def failed(self, patch: Patch) -> None:
        """A patch was not saved after all."""
        for name in patch.add:
            self._saved.pop(name, None)
        # No value is empty, so these differ from whatever they are now.
        self._saved.update(dict.fromkeys((*patch.put, *patch.drop), ""))

    def merge(self, stored: Fields) -> set[str]:
        """Take in the record as it is stored; gives the names whose value is another than it was here."""
        ours = {
            name: value
            for name, value in self.fields.items()
            if self._saved.get(name) != value and not (name.startswith(FIRST_WINS) and name in stored)
        }
        gone = self._saved.keys() - self.fields.keys()
        before = self.fields
        self.fields = {name: value for name, value in stored.items() if name not in gone} | ours
        self._saved = dict(stored)
        return {name for name in before.keys() | self.fields.keys() if before.get(name) != self.fields.get(name)}
