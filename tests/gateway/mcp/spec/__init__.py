"""What the protocol requires, asked of the gateway message by message: `tests/conformance/requirements.toml` says what.

One gateway stands between clients of both eras (`tests.gateway.mcp.exchange`) and two servers written by hand
(`server`), so that each test sees what goes over either side's wire.
"""
