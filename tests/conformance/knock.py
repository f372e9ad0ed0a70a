"""The program that the suite starts as the client under test where its server asks for a token: it asks the test to be
that client, and ends as the test says.

Its arguments are the test's socket and the suite's server. It starts quickly, as it does so for each scenario.
"""

from __future__ import annotations

import json
import os
import socket
import sys

if __name__ == "__main__":
    asked = {
        "url": sys.argv[2],
        "scenario": os.environ["MCP_CONFORMANCE_SCENARIO"],
        "version": os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"],
        "context": json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}")),
    }
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[1])
        line.sendall(json.dumps(asked).encode() + b"\n")
        said = line.makefile().read()
    print(said)
    sys.exit(not said.endswith("done\n"))
