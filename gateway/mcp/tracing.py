"""The port to traces: what a call gives to whoever follows it from process to process.

`gateway.observability.traces` implements it; without it calls keep the trace context that their clients sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.mcp.envelope import Params
    from gateway.mcp.policies.policy import Attempt


class Trace(Protocol):
    """One call in a trace."""

    def onward(self, params: Params) -> Params:
        """A request's parameters with this call in their `_meta`, for the server that it goes to."""
        ...

    def end(self, outcome: str, code: int | None) -> None:
        """The call has ended, as its record says."""
        ...


class Tracer(Protocol):
    def begin(self, attempt: Attempt) -> Trace:
        """A call has arrived, perhaps as part of a trace."""
        ...
