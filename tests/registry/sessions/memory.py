"""Records of sessions in memory: any number of processes share a `Shelf`, each with a store of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registry.core.clock import Clock
from registry.sessions.patch import Fields, Patch


@dataclass
class Record:
    fields: Fields
    writer: object
    changed_at: float
    expires_at: float


@dataclass
class Shelf:
    """What is stored. `away`: nobody reaches it."""

    clock: Clock
    records: dict[str, Record] = field(default_factory=dict)
    away: bool = False
    loads: int = 0
    saves: int = 0

    def now(self) -> float:
        if self.away:
            raise OSError("the store is away")
        return self.clock.now().timestamp()


class MemorySessions:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def load(self, key: str) -> Fields | None:
        self._shelf.loads += 1
        record = self._alive(key)
        return dict(record.fields) if record is not None else None

    async def save(self, patches: Sequence[Patch]) -> Mapping[str, Fields]:
        now = self._shelf.now()
        self._shelf.saves += len(patches)
        for patch in patches:
            before = self._alive(patch.key)
            fields = patch.applied(before.fields if before is not None else {})
            self._shelf.records[patch.key] = Record(fields, self, now, now + patch.seconds)
        return {patch.key: dict(self._shelf.records[patch.key].fields) for patch in patches}

    async def changed(self, seconds: float) -> Mapping[str, Fields]:
        since = self._shelf.now() - seconds
        return {
            key: dict(record.fields)
            for key, record in self._shelf.records.items()
            if record.changed_at > since and record.writer is not self and self._alive(key)
        }

    async def close(self) -> None:
        pass

    def _alive(self, key: str) -> Record | None:
        now = self._shelf.now()
        record = self._shelf.records.get(key)
        return record if record is not None and record.expires_at > now else None
