"""What can go wrong with the emergency stop."""

from __future__ import annotations

from registry.core.errors import Unavailable


class StopStateUnknown(Unavailable):
    """The stored state cannot be read, so nobody knows whether something is stopped."""

    code = "EMERGENCY_STATE_UNKNOWN"


class StopInForce(Unavailable):
    code = "EMERGENCY_STOP"
    title = "Emergency stop in force"
