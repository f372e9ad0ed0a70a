"""An MCP server with everything that the official conformance suite asks of a server under test.

Written on the Python SDK's low-level server, both eras on one URL, and started as a child process by `process`. It is
era-neutral where the suite is not: a tool that wants input pushes its question to a client of an earlier revision and
returns it as `input_required` to a modern one, so that the same scenario can be asked of a gateway whose two sides
speak different eras. `call` holds that rule, `tools`, `prompts` and `resources` what is offered, `tasks` the extension,
`server` puts them together, `eras` takes one era away.
"""
