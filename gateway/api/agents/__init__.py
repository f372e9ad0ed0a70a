"""The Agents API: `mission-control.md`."""
