"""What is worked out of header fields is worked out once for a head, and never taken for another head's."""

from __future__ import annotations

import pytest

from gateway.fields import Fields, once_per_head

Field = tuple[bytes, bytes]


class Worker:
    """Counts how often it worked."""

    def __init__(self) -> None:
        self.times = 0

    def name(self, fields: list[Field]) -> bytes:
        self.times += 1
        return dict(fields)[b"name"]


def request(made: dict[object, object], name: bytes = b"one") -> Fields:
    fields = Fields([(b"name", name)])
    fields.made = made  # type: ignore[assignment]
    return fields


def test_it_is_worked_out_once_for_a_head() -> None:
    worker, made = Worker(), dict[object, object]()
    work = once_per_head(worker.name)
    assert work(request(made)) == work(request(made)) == b"one"
    assert worker.times == 1
    assert work(request({}, b"two")) == b"two", "another head"


def test_two_who_work_do_not_take_each_other_s() -> None:
    made = dict[object, object]()

    def count(fields: list[Field]) -> int:
        return len(fields)

    one, other = once_per_head(Worker().name), once_per_head(count)
    assert one(request(made)) == b"one"
    assert other(request(made)) == 1


def test_plain_fields_are_worked_on_each_time() -> None:
    worker = Worker()
    work = once_per_head(worker.name)
    assert work([(b"name", b"one")]) == b"one"
    assert work([(b"name", b"two")]) == b"two"


def test_a_failure_is_not_kept() -> None:
    worker, made = Worker(), dict[object, object]()
    work = once_per_head(worker.name)
    empty = Fields()
    empty.made = made  # type: ignore[assignment]
    with pytest.raises(KeyError):
        work(empty)
    assert work(request(made)) == b"one"


def test_nothing_is_kept_as_nothing() -> None:
    worker, made = Worker(), dict[object, object]()

    def nothing(fields: list[Field]) -> None:
        worker.name(fields)

    work = once_per_head(nothing)
    work(request(made))
    work(request(made))
    assert worker.times == 1
