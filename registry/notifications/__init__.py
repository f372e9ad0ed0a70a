"""Notification channels: where people hear of what happens to servers."""
