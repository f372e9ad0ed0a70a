"""The image that workspaces run in: its Dockerfile, and the context that it is built from."""
