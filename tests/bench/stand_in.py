"""A stand-in for the gateway that keeps only what the benchmark's target relies on: the options and settings of
`gatehouse serve`, /readyz, registering over REST with the preset key, prefixed tools, and upstreams that outlive a
restart in the data directory. It answers the calls itself; a test of the target, not of a gateway.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = Path()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any = None) -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/readyz" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer " + os.environ["GATEHOUSE_ADMIN_API_KEY"]:
            self.answer(401, {})
        elif self.path == "/v1/mcp/servers":
            self.store.write_text(json.dumps([*self.servers(), body]))
            self.answer(201, body)
        elif self.path != "/mcp":
            # Limits and rules, of which it keeps none.
            self.answer(201, body)
        elif "id" not in body:
            self.answer(202)
        else:
            self.answer(
                200, {"jsonrpc": "2.0", "id": body["id"], "result": self.result(body["method"], body["params"])}
            )

    def servers(self) -> list[dict[str, str]]:
        return json.loads(self.store.read_text()) if self.store.exists() else []

    def result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
        if method == "tools/list":
            names = [f"{server['name']}__{tool}" for server in self.servers() for tool in tools_of(server["base_url"])]
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
        return {"content": [{"type": "text", "text": params["arguments"]["text"]}]}


def tools_of(url: str) -> list[str]:
    many = re.search(r"/u/\d+/(\d+)/mcp$", url)
    return [f"t{i}" for i in range(int(many[1]))] if many else ["echo", "slow", "progress"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    Handler.store = options.data_dir / "servers.json"
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
