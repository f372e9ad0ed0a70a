"""The protocol's words: revisions, methods, headers and error codes, for both eras.

Source: MCP specification 2026-07-28 (basic, versioning, transports) and 2025-11-25. Nothing here does anything.
"""

from __future__ import annotations

from typing import Final

MODERN: Final = "2026-07-28"
MODERN_VERSIONS: Final = (MODERN,)
LEGACY_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
LATEST_LEGACY: Final = LEGACY_VERSIONS[0]

META: Final = "io.modelcontextprotocol/"
META_VERSION: Final = META + "protocolVersion"
META_CAPABILITIES: Final = META + "clientCapabilities"
META_CLIENT_INFO: Final = META + "clientInfo"
META_LOG_LEVEL: Final = META + "logLevel"
META_SERVER_INFO: Final = META + "serverInfo"
META_SUBSCRIPTION: Final = META + "subscriptionId"
TASKS: Final = META + "tasks"
APPS: Final = META + "ui"
"""Extensions; the second is MCP Apps."""

# JSON-RPC
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
# MCP
RESOURCE_NOT_FOUND: Final = -32002
"""Legacy only; the modern era answers INVALID_PARAMS."""
URL_ELICITATION_REQUIRED: Final = -32042
"""Legacy only; the modern era answers with what it needs."""
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
# Our own, outside the range that JSON-RPC and MCP reserve
EMERGENCY_STOP: Final = -31000
BUDGET_EXCEEDED: Final = -31001
RATE_LIMITED: Final = -31002
NOT_SENT: Final = -31003
OUTCOME_UNKNOWN: Final = -31004
APPROVAL_REQUIRED: Final = -31005
DEFINITION_HELD: Final = -31006

HTTP_STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
"""Status of a modern answer that carries this error; every other error travels with 200."""

NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter that `Mcp-Name` mirrors, per method."""
