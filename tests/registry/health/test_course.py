"""The course of a server's health: what becomes of observations, whatever their order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from registry.health.course import (
    FAILING_CALLS,
    FLAPPING,
    FLAPS,
    SLOW,
    SLOW_AFTER,
    UNREACHABLE,
    Course,
    Observation,
    Raise,
    Resolve,
    Step,
    advance,
    flap_seconds,
)
from registry.servers.health_config import HealthConfig, MaintenanceWindow

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONFIG = HealthConfig(check_interval_seconds=60)
GOOD = {"connectivity": "healthy", "handshake": "healthy", "capabilities": "healthy"}
BAD = {"connectivity": "unhealthy", "handshake": "unknown", "capabilities": "unknown"}


def seen(minute: float, *, up: bool = True, ms: float | None = 10, calls: str | None = None) -> Observation:
    at = START + timedelta(minutes=minute)
    if not up:
        return Observation(at, usable=False, checks=BAD, error="nobody is there")
    return Observation(at, usable=True, checks=GOOD, response_time_ms=ms, failing_calls=calls)


def follow(*observations: Observation, config: HealthConfig = CONFIG) -> tuple[Course, list[str]]:
    """The course at the end, and the steps on the way: `+type` for a raised alert, `-type` for a resolved one."""
    course, told = Course(), list[str]()
    for observation in observations:
        course, steps = advance(course, observation, config)
        for step in steps:
            course = with_step(course, step)
            told.append(f"+{step.type}" if isinstance(step, Raise) else f"-{step.type}")
    return course, told


def with_step(course: Course, step: Step) -> Course:
    if isinstance(step, Resolve):
        return replace(course, open={kind: alert for kind, alert in course.open.items() if kind != step.type})
    return replace(course, open={**course.open, step.type: "id"})


def test_one_failure_is_told_once_and_is_over_after_two_good_checks() -> None:
    course, told = follow(seen(0), seen(1, up=False), seen(2, up=False), seen(3, up=False))
    assert (course.status, told) == ("unhealthy", [f"+{UNREACHABLE}"])
    course, told = follow(seen(0), seen(1, up=False), seen(2))
    assert (course.status, told) == ("healthy", [f"+{UNREACHABLE}"])
    course, told = follow(seen(0), seen(1, up=False), seen(2), seen(3))
    assert (course.status, told) == ("healthy", [f"+{UNREACHABLE}", f"-{UNREACHABLE}"])


def test_a_server_that_flaps_is_told_of_once_and_again_when_it_has_settled() -> None:
    flapping = [seen(minute, up=bool(minute % 2)) for minute in range(40)]
    course, told = follow(*flapping)
    assert told == [f"+{UNREACHABLE}", f"+{FLAPPING}"]
    quiet = flap_seconds(CONFIG) / 60
    settled = [*flapping, *(seen(40 + minute) for minute in range(int(quiet)))]
    course, told = follow(*settled)
    assert (course.status, course.open) == ("healthy", {})
    assert told == [f"+{UNREACHABLE}", f"+{FLAPPING}", f"-{FLAPPING}", f"-{UNREACHABLE}"]


def test_slowness_must_last_to_be_told_and_to_be_over() -> None:
    slow = [seen(minute, ms=6000) for minute in range(SLOW_AFTER)]
    assert follow(*slow[:-1])[1] == []
    course, told = follow(*slow)
    assert (course.status, told) == ("degraded", [f"+{SLOW}"])
    # Just below the threshold is neither slow nor quick.
    assert follow(*slow, *(seen(10 + n, ms=4900) for n in range(9)))[1] == [f"+{SLOW}"]
    course, told = follow(*slow, *(seen(10 + n, ms=100) for n in range(SLOW_AFTER)))
    assert (course.status, told) == ("healthy", [f"+{SLOW}", f"-{SLOW}"])


def test_failing_calls_degrade_a_server_that_passes_its_checks() -> None:
    course, told = follow(seen(0), seen(1, calls="9 of 10 calls failed"))
    assert (course.status, told) == ("degraded", [f"+{FAILING_CALLS}"])
    course, told = follow(seen(0), seen(1, calls="9 of 10 calls failed"), seen(2))
    assert (course.status, told) == ("healthy", [f"+{FAILING_CALLS}", f"-{FAILING_CALLS}"])


def test_an_imperfect_check_degrades_and_raises_nothing() -> None:
    imperfect = replace(seen(0), checks=GOOD | {"capabilities": "degraded"})
    assert follow(imperfect) == (replace(Course(), status="degraded", good=1, quick=1), [])


def test_in_maintenance_nothing_is_told_and_afterwards_what_is_still_so() -> None:
    window = MaintenanceWindow(starts_at=START + timedelta(minutes=1), ends_at=START + timedelta(minutes=5))
    config = CONFIG.model_copy(update={"maintenance_windows": [window]})
    down = [seen(0), *(seen(minute, up=False) for minute in range(1, 5))]
    course, told = follow(*down, config=config)
    assert (course.status, told) == ("unhealthy", [])
    assert follow(*down, seen(5, up=False), config=config)[1] == [f"+{UNREACHABLE}"]
    assert follow(*down, seen(5), config=config)[1] == []


CHECKS = st.lists(st.tuples(st.booleans(), st.floats(1, 20_000), st.sampled_from([None, "calls fail"])), max_size=60)


@given(CHECKS)
def test_every_alert_is_raised_before_it_is_resolved_and_never_twice(checks: list[tuple[bool, float, str]]) -> None:
    _, told = follow(*(seen(n, up=up, ms=ms, calls=calls) for n, (up, ms, calls) in enumerate(checks)))
    for kind in {step[1:] for step in told}:
        signs = [step[0] for step in told if step[1:] == kind]
        assert signs == ["+-"[n % 2] for n in range(len(signs))]


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_what_is_told_is_bounded_however_a_server_behaves(states: list[bool]) -> None:
    observations = [seen(n / 60, up=up) for n, up in enumerate(states)]
    course, told = follow(*observations)
    # All within one window of flapping: each change up to that can be told, and the flapping itself.
    assert len(told) <= FLAPS + 1
    assert (course.status == "unhealthy") == (not states[-1])
