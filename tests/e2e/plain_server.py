"""An MCP server over stdio without any library, for containers that have none: it tells where it is, and misbehaves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

TOOLS = ("where", "hog", "fork", "leave")


def where() -> str:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = Path("/workspace/kept")
    found = {
        "uid": os.getuid(),
        "pid": os.getpid(),
        "rights": status["CapEff"].strip(),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "kept": kept.exists(),
        "secret": os.environ.get("SECRET"),
    }
    kept.touch()
    return json.dumps(found)


def hog() -> str:
    taken = bytearray(4 * 1024**3)
    taken[::4096] = b"x" * len(taken[::4096])
    return "there was enough"


def fork() -> str:
    made = 0
    try:
        while made < 10_000:
            if os.fork() == 0:
                sys.stdin.read()  # as long as the others live
                os._exit(0)
            made += 1
    except OSError as error:
        return f"stopped: {error.strerror}"
    return "nothing stopped it"


def leave() -> str:
    sys.stderr.write("had enough\n")
    sys.stderr.flush()
    os._exit(3)


def answer(message: dict[str, Any]) -> dict[str, Any]:
    match message["method"]:
        case "initialize":
            version = message["params"]["protocolVersion"]
            return {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "p", "version": "1"},
            }
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        case "tools/call":
            said = globals()[message["params"]["name"]]()
            return {"content": [{"type": "text", "text": said}]}
        case _:
            return {}


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" not in asked:
            continue
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] == "server/discover":
            reply["error"] = {"code": -32601, "message": "no such method"}
        else:
            reply["result"] = answer(asked)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
