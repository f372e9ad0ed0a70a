"""A small blocking MCP client for checks: is the target ready, what are its tools called, is one call right.

It loads nothing: that is `c/loadgen.c`. Speaks both eras; knows the JSON and the event-stream form of an answer.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, Self

from bench.errors import BenchError

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
AWKWARD_TEXT = 'quote " backslash \\ newline \n umlaut ü emoji \U0001f511'


class McpClient:
    """One connection to an MCP endpoint on loopback. Use as a context manager.

    Every method raises BenchError for a wrong answer and OSError or HTTPException for a broken connection.
    """

    def __init__(self, port: int, path: str, headers: dict[str, str], era: str, timeout: float = 15.0) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._path, self._era = path, era
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
        self._last_id = 0

    def __enter__(self) -> Self:
        if self._era == "modern":
            self._headers["MCP-Protocol-Version"] = MODERN
            return self
        try:
            hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
            self._headers["MCP-Protocol-Version"] = self.request("initialize", hello)["protocolVersion"]
            self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, {})
        except BaseException:
            self._http.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if "Mcp-Session-Id" in self._headers:
                self._http.request("DELETE", self._path, headers=self._headers)
                self._http.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass  # the session's end is a courtesy; the checks are done
        finally:
            self._http.close()

    def _post(self, message: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, bytes]:
        self._http.request("POST", self._path, json.dumps(message), {**self._headers, **headers})
        response = self._http.getresponse()
        if session := response.getheader("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session
        return response.status, response.getheader("Content-Type") or "", response.read()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request and its result."""
        self._last_id += 1
        headers = {}
        if self._era == "modern":
            prefix = "io.modelcontextprotocol/"
            params = {**params, "_meta": {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}}
            headers = {"Mcp-Method": method, **({"Mcp-Name": params["name"]} if "name" in params else {})}
        sent = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        status, kind, body = self._post(sent, headers)
        answer = self._find_answer(kind, body) if status == 200 else None
        if not answer or "result" not in answer:
            raise BenchError(f"{method} answered {status}: {body[:300].decode(errors='replace')}")
        return answer["result"]

    def _find_answer(self, kind: str, body: bytes) -> dict[str, Any] | None:
        texts = [body]
        if kind.startswith("text/event-stream"):
            texts = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()]
        messages = [json.loads(text) for text in texts]
        return next((m for m in messages if m.get("id") == self._last_id), None)

    def tools(self) -> list[str]:
        """The names of all tools, page after page."""
        names: list[str] = []
        params: dict[str, Any] = {}
        while True:
            page = self.request("tools/list", params)
            names += [tool["name"] for tool in page["tools"]]
            if "nextCursor" not in page:
                return names
            params = {"cursor": page["nextCursor"]}

    def check_echo(self, tool: str) -> None:
        """Calls an echoing tool with a text that is easily damaged on the way."""
        result = self.request("tools/call", {"name": tool, "arguments": {"text": AWKWARD_TEXT}})
        texts = [item.get("text") for item in result.get("content", ())]
        if result.get("isError") or texts != [AWKWARD_TEXT]:
            raise BenchError(f"{tool} did not give its text back: {str(result)[:300]}")
