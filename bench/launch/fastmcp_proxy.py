"""FastMCP's own proxy on FastMCP's own HTTP server, as its documentation starts it; run by FastMCP's environment.

python bench/launch/fastmcp_proxy.py PORT UPSTREAM_URL
"""

from __future__ import annotations

import sys

from fastmcp.server import create_proxy

create_proxy(sys.argv[2], name="bench").run(
    transport="http",
    host="127.0.0.1",
    port=int(sys.argv[1]),
    path="/mcp",
    show_banner=False,
    log_level="ERROR",
    uvicorn_config={"access_log": False},
)
