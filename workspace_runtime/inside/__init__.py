"""The MCP server that runs in a workspace's container. It stands alone: the standard library, and programs of the image."""
