"""`gatehouse servers import-openapi` against the gateway itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.gateway.mcp.upstream.pets import description
from tests.support.components.machine import CHECKOUT
from tests.support.running import Running


async def test_a_file_is_imported(gateway: Running, tmp_path: Path) -> None:
    file = tmp_path / "pets.json"
    file.write_text(json.dumps(description()))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    environment = clean | {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_API_KEY": gateway.key, "PYTHONPATH": str(CHECKOUT)}

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", "servers", "import-openapi", "Pets", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
        )

    missing = await run(str(tmp_path / "no.json"))
    assert missing.returncode != 0
    assert "cannot be read" in missing.stderr
    made = await run(str(file), "--base-url", gateway.url, "--include", "tag:read", "--header", "X-Key=k")
    assert made.returncode == 0, made.stderr
    assert made.stdout == "Imported Pets (slug pets): 2 tools.\n"
