"""Keys: what is stored, logged and shown opens nothing, and a refusal's time tells nothing."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.gateway.mcp.door import Door, opened
from tests.support.attacks import attack
from tests.support.gateway import RunningGateway, new_key

ROUNDS = 2000
WITHIN = 0.05


def everything(folder: Path) -> bytes:
    """All that a gateway keeps, but for the file that is there to show the keys of the first run."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "first-run.txt"]
    return b"\0".join(path.read_bytes() for path in files)


@attack(18)
def test_no_key_is_in_the_database_the_logs_or_an_answer(tmp_path: Path) -> None:
    with RunningGateway(
        tmp_path / "data", env={"GATEHOUSE_CALL_LOG": "all", "GATEHOUSE_LOG_LEVEL": "debug"}
    ) as gateway:
        whole = new_key(gateway, "hidden", permissions=["mcp:tools:list", "keys:read"])
        keys = [whole, gateway.admin_key, gateway.agent_key]
        for key in keys:
            assert gateway.rest("GET", "/v1/tools", key=key).status == 200
            assert gateway.rest("GET", f"/v1/tools?api_key={key}", key="mcp_wrong").status == 401
            assert gateway.rest("POST", "/v1/auth/api-key/validate", {"api_key": key}).status == 200
            assert gateway.rest("POST", "/v1/auth/api-key/validate", {"api_key": f"{key}!"}).status == 200
            gateway.rest("GET", "/v1/nowhere", key=f"{key}x")
        assert gateway.rest("POST", "/v1/tools/gatehouse__servers_list", {}).status == 200
        answers = [gateway.rest("GET", path).text for path in ("/v1/api-keys", "/api/v1/api-keys", "/v1/audit")]
        secrets = [key.split("_", 2)[2] for key in keys]
        with sqlite3.connect(gateway.data_dir / "gatehouse.db") as database:
            dump = "\n".join(database.iterdump())
        assert "api_keys" in dump
        gateway.stop()
        kept = everything(gateway.data_dir)
        for secret in secrets:
            assert secret not in dump
            assert secret.encode() not in kept
            # The admin's key is printed once, at the first start, before there is any log.
            printed = re.sub(r"(?m)^[^{].*$", "", gateway.output)
            assert secret not in printed
            assert not [text for text in answers if secret in text]
        assert '"event"' in gateway.output


async def refuse(door: Door, key: str) -> None:
    answer = await door.send("GET", "/v1/auth/me", {"Authorization": f"Bearer {key}"})
    assert answer.status == 401


def guesses(known: str, number: int) -> tuple[str, str]:
    """A key with an unknown prefix, and one with a known prefix and another secret; never the same twice."""
    secret = f"{number:043d}"
    return f"mcp_{number:08d}_{secret}", f"mcp_{known}_{secret}"


@attack(18)
async def test_an_unknown_prefix_costs_what_a_wrong_secret_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "data") as door:
        known = door.admin.split("_")[1]
        did: list[str] = []
        engine = door.app.database.engine.sync_engine

        def ran(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            # What is done in the background at the same time is no part of it.
            did.extend([statement] * ("api_keys" in statement))

        event.listen(engine, "before_cursor_execute", ran)
        keys = door.app._services.identity._keys
        matches = type(keys).matches

        def seen(self: Any, secret: str, digest: str | None) -> bool:
            did.append("compared")
            return matches(self, secret, digest)

        monkeypatch.setattr(type(keys), "matches", seen)
        costs: list[list[str]] = []
        for key in guesses(known, 1):
            did.clear()
            await refuse(door, key)
            costs.append(list(did))
        assert costs[0] == costs[1]
        assert len(costs[0]) == 2
        assert "compared" in costs[0]


@pytest.mark.long
@attack(18)
async def test_a_refusals_time_does_not_tell_whether_a_prefix_exists(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", log_level="error") as door:
        known = door.admin.split("_")[1]
        times: tuple[list[int], list[int]] = ([], [])
        gc.disable()
        try:
            for number in range(1, ROUNDS + 100):
                # Interleaved, and each first in turn: what else the machine does is the same for both.
                for which in (0, 1) if number % 2 else (1, 0):
                    key = guesses(known, number)[which]
                    began = time.perf_counter_ns()
                    await refuse(door, key)
                    times[which].append(time.perf_counter_ns() - began)
                await asyncio.sleep(0)
        finally:
            gc.enable()
        unknown, wrong = (statistics.median(taken[99:]) for taken in times)
        assert abs(unknown - wrong) / min(unknown, wrong) < WITHIN, (unknown, wrong)
