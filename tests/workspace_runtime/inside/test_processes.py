"""Processes are ended by the mark that they carry."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator

import pytest

from workspace_runtime.inside import processes
from workspace_runtime.inside.processes import MARK, end_marked, kill, marked

NOBODY = 2**30
"""More than any system counts processes to."""


class Sleepers:
    """Two processes with one mark."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        env = {**os.environ, MARK: self.mark}
        self.processes = [subprocess.Popen(["/bin/sleep", "60"], env=env) for _ in range(2)]
        self.pids = [process.pid for process in self.processes]

    def codes(self) -> list[int]:
        return [process.wait(10) for process in self.processes]


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers()
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every signal that is sent, in order."""
    signals: list[tuple[int, int]] = []
    send = os.kill

    def note(pid: int, sign: int) -> None:
        signals.append((pid, sign))
        send(pid, sign)

    monkeypatch.setattr(os, "kill", note)
    return signals


def test_all_are_stopped_before_the_first_is_killed(sleepers: Sleepers, sent: list[tuple[int, int]]) -> None:
    kill(sleepers.pids)
    assert sent == [(pid, sign) for sign in (signal.SIGSTOP, signal.SIGKILL) for pid in sleepers.pids]
    assert sleepers.codes() == [-signal.SIGKILL] * 2


def test_one_that_has_ended_spares_no_other(sleepers: Sleepers) -> None:
    kill([NOBODY, *sleepers.pids])
    assert sleepers.codes() == [-signal.SIGKILL] * 2


def test_what_carries_a_mark_is_stopped_and_ended(sleepers: Sleepers, sent: list[tuple[int, int]]) -> None:
    end_marked(sleepers.mark)
    assert {sign for _, sign in sent[:2]} == {signal.SIGSTOP}
    assert sleepers.codes() == [-signal.SIGKILL] * 2
    assert marked(sleepers.mark) == []


def test_one_that_carries_nothing_for_a_moment_is_ended_too(
    sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([[], sleepers.pids])
    monkeypatch.setattr(processes, "marked", lambda mark: next(looks, []))
    end_marked(sleepers.mark)
    assert sleepers.codes() == [-signal.SIGKILL] * 2
