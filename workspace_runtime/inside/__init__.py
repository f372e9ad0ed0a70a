"""The MCP server that runs in a workspace's container. It stands alone, on the standard library."""
