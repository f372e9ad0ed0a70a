"""How a tool fails: in words that the agent who called it can act upon."""

from __future__ import annotations


class ToolFailure(Exception):
    """What was asked for cannot be done; the message says why, and what could be."""
