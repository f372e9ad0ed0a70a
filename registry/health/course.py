"""The course of a server's health: from one observation to the next, and which alerts begin and end with it.

Pure: no clock, no database. Whoever observes is `registry.health.monitor`, or a look at the server by discovery;
writing down what comes out is `registry.health.book`.

What keeps alerts quiet: an alert is raised once and stays open until it is resolved; it is resolved only after
`STEADY` good observations in a row; a server that keeps changing is told of once, as flapping, and then no more until
it has settled; in maintenance nothing is raised or resolved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from registry.servers.health_config import HealthConfig

Status = Literal["healthy", "unhealthy", "degraded", "unknown"]
Severity = Literal["info", "warning", "critical"]

UNREACHABLE = "server_unreachable"
SLOW = "high_response_time"
FAILING_CALLS = "failing_calls"
FLAPPING = "flapping"
LOW_UPTIME = "low_uptime"

STEADY = 2
"""Good observations in a row after which trouble is over."""
SLOW_AFTER = 3
"""Slow observations in a row after which a server is degraded, and quick ones after which it is not."""
QUICK_SHARE = 0.9
"""Of the threshold: below this an observation is quick. In between it is neither."""
FLAPS = 4
"""Changes between up and down within `flap_seconds` that make a server flapping."""
KEPT_CHANGES = 16


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a server.

    Args:
        usable: it was reached, and spoke MCP.
        checks: `healthy`, `unhealthy`, `degraded` or `unknown` for each of the three checks.
        failing_calls: said of real calls that fail although the check succeeded; `None` if they do not.
    """

    at: datetime
    usable: bool
    checks: dict[str, str]
    response_time_ms: float | None = None
    error: str | None = None
    failing_calls: str | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """Where a server stands.

    Args:
        changes: when it last went up or down, in seconds since the epoch, oldest first.
        open: alerts that are open, by type, with their ids.
    """

    status: Status = "unknown"
    good: int = 0
    slow: int = 0
    quick: int = 0
    changes: tuple[float, ...] = ()
    open: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Raise:
    type: str
    severity: Severity
    message: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resolve:
    type: str


Step = Raise | Resolve


def flap_seconds(config: HealthConfig) -> float:
    """How long a change between up and down is remembered."""
    return max(600.0, 12.0 * config.check_interval_seconds)


def is_flapping(course: Course, config: HealthConfig, now: float) -> bool:
    """Many changes lately; one that is flapping has settled only after half the time without any."""
    recent = [at for at in course.changes if now - at < flap_seconds(config)]
    if FLAPPING in course.open:
        return bool(recent) and now - recent[-1] < flap_seconds(config) / 2
    return len(recent) >= FLAPS


def advance(course: Course, seen: Observation, config: HealthConfig) -> tuple[Course, list[Step]]:
    """The course after an observation, and what it makes of alerts; ids of raised ones are the caller's to fill in."""
    now = seen.at.timestamp()
    up, was_up = seen.usable, course.status in ("healthy", "degraded")
    changes = course.changes
    if course.status != "unknown" and up != was_up:
        changes = (*changes, now)[-KEPT_CHANGES:]
    course = replace(
        course,
        good=course.good + 1 if up else 0,
        changes=changes,
        **_pace(course, seen, config),
    )
    course = replace(course, status=_status(course, seen))
    steps = [] if config.in_maintenance(seen.at) else _steps(course, seen, config)
    if Resolve(FLAPPING) in steps:
        # Settled: what it did before does not count towards the next time.
        course = replace(course, changes=())
    return course, steps


def _pace(course: Course, seen: Observation, config: HealthConfig) -> dict[str, int]:
    taken, most = seen.response_time_ms, config.alert_thresholds.response_time_ms
    if taken is None:
        return {}
    return {
        "slow": course.slow + 1 if taken > most else 0,
        "quick": course.quick + 1 if taken < most * QUICK_SHARE else 0,
    }


def _is_slow(course: Course) -> bool:
    return course.slow >= SLOW_AFTER or (SLOW in course.open and course.quick < SLOW_AFTER)


def _status(course: Course, seen: Observation) -> Status:
    if not seen.usable:
        return "unhealthy"
    imperfect = any(state in ("degraded", "unhealthy") for state in seen.checks.values())
    return "degraded" if imperfect or seen.failing_calls or _is_slow(course) else "healthy"


def _steps(course: Course, seen: Observation, config: HealthConfig) -> list[Step]:
    steps: list[Step] = []
    now = seen.at.timestamp()

    def keep(kind: str, severity: Severity, trouble: bool, over: bool, message: str, **details: Any) -> None:
        if trouble and kind not in course.open:
            steps.append(Raise(kind, severity, message, details))
        elif over and kind in course.open:
            steps.append(Resolve(kind))

    flapping = is_flapping(course, config, now)
    times = sum(now - at < flap_seconds(config) for at in course.changes)
    message = f"The server went up and down {times} times lately; it is not told of again until it has settled."
    keep(FLAPPING, "warning", flapping, not flapping, message, changes=times)
    if flapping:
        return steps
    down = not seen.usable
    steady = course.good >= STEADY
    message = f"The server cannot be used: {seen.error or 'it does not answer'}"
    keep(UNREACHABLE, "critical", down, steady, message, checks=seen.checks)
    most = config.alert_thresholds.response_time_ms
    slow = not down and _is_slow(course)
    over = not down and course.quick >= SLOW_AFTER
    keep(
        SLOW,
        "warning",
        slow,
        over,
        "Response time exceeded threshold",
        threshold=most,
        actual_value=seen.response_time_ms,
    )
    failing = not down and seen.failing_calls is not None
    keep(FAILING_CALLS, "warning", failing, steady and not failing, seen.failing_calls or "")
    return steps
