"""Incidents: what was stopped on the data path and people should learn of."""
