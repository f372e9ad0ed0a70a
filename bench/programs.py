"""The two C programs: compiled when their sources are newer, and the running upstream with its counters.

What they do on the wire is told at the top of `c/upstream.c` and `c/loadgen.c`.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from pathlib import Path

from bench.errors import BenchError
from bench.machine import Process, require

SOURCES = Path(__file__).resolve().parent / "c"


def build() -> dict[str, Path]:
    """Compiles what is out of date. Answers the paths of `upstream` and `loadgen`.

    Raises MissingProgram without gcc, BenchError when the compiler refuses.
    """
    built: dict[str, Path] = {}
    for name in ("upstream", "loadgen"):
        source, program = SOURCES / f"{name}.c", SOURCES / name
        newest = max(source.stat().st_mtime, (SOURCES / "wire.h").stat().st_mtime)
        if not program.exists() or program.stat().st_mtime < newest:
            gcc = require("gcc", "apt-get install gcc libc6-dev, or your system's C compiler package")
            compiler = [gcc, "-O2", "-Wall", "-Wextra", "-Wshadow", "-o", str(program), str(source)]
            done = subprocess.run(compiler, check=False, capture_output=True, text=True)
            if done.returncode:
                raise BenchError(f"gcc refused {source.name}:\n{done.stderr[-2000:]}")
        built[name] = program
    return built


class Upstream:
    """The running MCP server behind every gateway; `lie` makes its answers wrong in the named way."""

    def __init__(self, program: Path, core: int, run_dir: Path, lie: str = "") -> None:
        command = [str(program), *(["--lie", lie] if lie else [])]
        self.process = Process(command, core, run_dir / "upstream.log")
        try:
            self.port = self._announced_port()
        except BenchError:
            self.process.stop()
            raise
        # opened once and kept, so that reading the counters does not show up in them
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def _announced_port(self) -> int:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            words = self.process.log.read_text().split()
            if words[:1] == ["listening"] and len(words) == 2:
                return int(words[1])
            self.process.check_alive()
            time.sleep(0.005)
        raise BenchError("the upstream did not announce its port within 10 s")

    def _get(self, path: str) -> dict[str, int]:
        self._http.request("GET", path)
        return json.loads(self._http.getresponse().read())

    def counters(self) -> dict[str, int]:
        """What arrived since the last reset: connections and requests by kind."""
        return self._get("/stats")

    def reset(self) -> None:
        self._get("/reset")

    def stop(self) -> None:
        self._http.close()
        self.process.stop()
