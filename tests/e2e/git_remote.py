"""A remote that wants a password: git's own server behind a check. Run inside a workspace, without any other file.

It says "ready" when it serves. The password is the first line of its standard input, so that it is in no argument and
no variable.
"""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import sys

PORT = 8418
USER = "agent"


class Remote(http.server.BaseHTTPRequestHandler):
    """Serves the bare repository `.origin.git` of the workspace as `/origin.git`."""

    wanted = ""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != self.wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        head, _, body = self._ask_git(self._body()).partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _ask_git(self, body: bytes) -> bytes:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": "/workspace",
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.replace("/origin", "/.origin", 1),
            "QUERY_STRING": query,
            "REMOTE_USER": USER,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        return subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=env, check=False).stdout

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = b""
        while size := int(self.rfile.readline(), 16):
            said += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return said

    def log_message(self, format: str, *args: object) -> None:
        """Nothing of it is anybody's affair."""


if __name__ == "__main__":
    password = sys.stdin.readline().strip()
    Remote.wanted = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Remote)
    print("ready", flush=True)
    server.serve_forever()
