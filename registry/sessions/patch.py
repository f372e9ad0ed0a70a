"""What changes in the record of a legacy session: plain values, which the data path hands to a store.

A record is a few named texts. Processes change them independently, so a change says what it means to each of them
instead of replacing the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes of one record; it is made if there is none.

    Args:
        key: of the session.
        add: values that count only where no process has set one before.
        put: values that replace others.
        drop: names that are to go.
        seconds: from now on the record is kept for so long.
    """

    key: str
    seconds: float
    add: Fields = field(default_factory=dict[str, str])
    put: Fields = field(default_factory=dict[str, str])
    drop: tuple[str, ...] = ()

    def applied(self, before: Fields) -> Fields:
        kept = {name: value for name, value in before.items() if name not in self.drop}
        return {**self.add, **kept, **self.put}
