"""Approvals: which calls wait for a person, those that wait, and what was decided."""
