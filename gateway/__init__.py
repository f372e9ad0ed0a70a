"""Speaks MCP, HTTP and realtime. Contains no SQL; `gateway.app` is the only place that wires things together."""
