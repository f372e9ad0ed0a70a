"""Servers in the formats of others: published as an MCP registry publishes them, and imported from clients' files."""
