"""The misbehaving server of `bench/faults`, as a process: its tool `tool` does what `GET /switch/FAULT` said last.

The faults are those of the tests. It prints its port, and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support import faulty


class Switched(faulty.Faulty):
    fault: faulty.Fault = staticmethod(faulty.good)

    async def _deal_with(self, head, body, reader, writer) -> None:
        if head.startswith(b"GET /switch/"):
            name = head.split()[1].rpartition(b"/")[2].decode()
            self.fault = getattr(faulty, name)
            writer.write(faulty.http_head(204, None, 0))
            return
        await super()._deal_with(head, body, reader, writer)


async def serve() -> None:
    server = Switched({}, modern=True)

    async def tool(call: faulty.Call) -> None:
        await server.fault(call)

    server.faults["tool"] = tool
    faulty._bomb()  # noqa: SLF001 - packed before it is timed
    await server.start()
    print("listening", server.url.split(":")[2].split("/")[0], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
