"""The Workspaces API: `octoprox.md`."""
