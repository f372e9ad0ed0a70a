"""The first start fills an empty database, once, and keeps what it made to the owner of the data dir."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from sqlalchemy import func, select

from registry.core.db import Database
from registry.core.events import EventBus
from registry.core.security import WeakSecret
from registry.identity.first_run import FirstRun, Preset, ensure_first_run, operator_token
from registry.identity.models import ApiKey, Organization, User
from registry.identity.permissions import AGENT
from registry.identity.principal import OPERATE
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, make_service

URL = "http://127.0.0.1:8000"
PRESET_KEY = "mcp_preset_Zk3v9QpX7LwRtYbN2cHs8uJd4eFgA1mB"


async def _first_run(database: Database, preset: Preset = Preset()) -> FirstRun | None:  # noqa: B008
    async with database.transaction() as session:
        return await ensure_first_run(session, preset, url=URL, master=MASTER, clock=SettableClock())


async def test_it_makes_somebody_who_can_log_in_and_two_keys(database: Database) -> None:
    made = await _first_run(database)
    assert made is not None
    assert made.admin_email is not None
    assert made.admin_password is not None
    assert made.admin_api_key is not None
    service = make_service(SettableClock())
    async with database.reading() as session:
        user_id = (await service.check_password(session, made.admin_email, made.admin_password)).id
        admin = await service.authenticate_key(session, made.admin_api_key)
        agent = await service.authenticate_key(session, made.agent_api_key)
    assert admin.user_id == agent.user_id == user_id
    assert admin.operates
    assert admin.may("users:manage")
    assert agent.permissions == AGENT
    assert OPERATE not in agent.permissions


async def test_the_file_has_the_names_and_is_the_owner_s_alone(database: Database, tmp_path: Path) -> None:
    made = await _first_run(database)
    assert made is not None
    made.keep(tmp_path)
    file = tmp_path / "first-run.txt"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert list(lines) == ["url", "admin_email", "admin_password", "admin_api_key", "agent_api_key"]
    assert lines["url"] == URL
    assert lines["agent_api_key"] == made.agent_api_key
    assert made.agent_api_key not in repr(made)


async def test_presets_are_honoured_and_not_written(database: Database) -> None:
    preset = Preset("Boss@Acme.Test", "correct horse battery", PRESET_KEY)
    made = await _first_run(database, preset)
    assert made is not None
    assert [line.partition("=")[0] for line in made.lines()] == ["url", "agent_api_key"]
    service = make_service(SettableClock())
    async with database.reading() as session:
        assert (await service.check_password(session, "boss@acme.test", "correct horse battery")).is_operator
        assert (await service.authenticate_key(session, PRESET_KEY)).operates
    assert "correct horse" not in repr(preset)
    assert PRESET_KEY not in repr(preset)


@pytest.mark.parametrize(
    "preset",
    [Preset(password="short"), Preset(password="changeme"), Preset(api_key="mcp_a_short"), Preset(api_key="x")],
)
async def test_weak_presets_are_refused_and_leave_nothing(database: Database, preset: Preset) -> None:
    with pytest.raises(WeakSecret):
        await _first_run(database, preset)
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(Organization)) == 0


async def test_it_happens_once_even_if_two_processes_start(database_url: str) -> None:
    starters = [Database(database_url, EventBus()) for _ in range(5)]
    try:
        for starter in starters:
            # Connected beforehand, so that none is late.
            async with starter.reading():
                pass
        made = await asyncio.gather(*(_first_run(starter) for starter in starters))
        assert sum(result is not None for result in made) == 1
        async with starters[0].reading() as session:
            for model, count in ((Organization, 1), (User, 1), (ApiKey, 2)):
                assert await session.scalar(select(func.count()).select_from(model)) == count
        assert await _first_run(starters[0]) is None
    finally:
        for starter in starters:
            await starter.close()


def test_the_operator_s_token_stays_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    token = operator_token(tmp_path)
    assert len(token) >= 32
    assert operator_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "operator.token").stat().st_mode) == 0o600
