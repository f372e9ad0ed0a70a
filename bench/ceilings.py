"""The ceiling of the language: a target that does in Python what nginx does in C, and none of a gateway's work.

Beside it one sees what of a gateway's cost is Python's and what is its own. The proxy is `launch/byte_proxy.py`.
"""

from __future__ import annotations

from bench.targets import ROOT, Behind, Target, gatehouse_python


class Ceiling(Target):
    """Bytes alone: a raw `asyncio.Protocol` on uvloop and httptools with a keep-alive pool; Gatehouse's interpreter."""

    name = "ceiling"

    def prepare(self, behind: list[Behind]) -> None:
        self.path, self._upstream = behind[0].path, behind[0].port

    def command(self) -> list[str]:
        program = ROOT / "bench" / "launch" / "byte_proxy.py"
        return [gatehouse_python(), str(program), str(self.port), str(self._upstream)]
