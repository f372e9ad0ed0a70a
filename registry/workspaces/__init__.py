"""Workspaces: containers that agents work in, as the gateway wants them to be and as they are."""
