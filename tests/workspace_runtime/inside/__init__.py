"""The server that runs in a container, here in a folder of its own."""
