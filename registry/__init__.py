"""The system of record: everything Gatehouse knows and decides. Knows neither HTTP nor MCP."""
