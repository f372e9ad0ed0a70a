"""Runs containers for workspaces. Knows no database, no HTTP edge and no business rule."""
