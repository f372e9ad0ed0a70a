"""What can go wrong around a measurement; a wrong answer of a gateway is no error here but a counted result."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on with this target or at all; the message says what to do."""


class MissingProgram(BenchError):
    """A program that the benchmark needs is not installed."""
