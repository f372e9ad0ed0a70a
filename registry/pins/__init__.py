"""Pins: the definitions that a person, or the first look, has approved; what differs from them later is held."""
