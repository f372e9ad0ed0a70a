"""Real MCP servers that end-to-end tests start as child processes.

`process` runs and ends a child, `everything` is the reference server of the npm registry, `notes` is our own small
server on the Python SDK. The npm packages come from `tests.support.components`, the gateway from
`tests.support.gateway`.
"""
