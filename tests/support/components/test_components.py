"""The components do what the tests that lean on them expect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis as RedisClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.components.machine import CHECKOUT, attempt
from tests.support.components.missing import ComponentMissing, closing_lines, tried_once
from tests.support.components.node import VERSIONS, Node, NpmPackage
from tests.support.components.postgres import Postgres


async def _tables(url: str) -> list[str]:
    return await _run(url, "select tablename from pg_tables where schemaname = 'public'")


async def _run(url: str, statement: str) -> list[str]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        result = await connection.execute(text(statement))
        values = list(result.scalars()) if result.returns_rows else []
    await engine.dispose()
    return values


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_an_empty_database(postgres_url: str, turn: int) -> None:
    assert await _tables(postgres_url) == []
    await _run(postgres_url, "create table left_behind (id int)")


async def test_a_database_can_be_made_from_a_template(postgres: Postgres, postgres_url: str) -> None:
    await _run(postgres_url, "create table left_behind (id int)")
    copy = postgres.create_database(template=postgres_url.rsplit("/", 1)[1])
    assert await _tables(postgres.url(copy)) == ["left_behind"]
    postgres.drop_database(copy)


async def test_a_crashed_postgres_comes_back_with_what_was_committed() -> None:
    server = Postgres()
    try:
        server.start()
        url = server.url(server.create_database())
        await _run(url, "create table left_behind (id int)")
        server.crash()
        assert not server.answers()
        server.start()
        assert await _tables(url) == ["left_behind"]
    finally:
        server.remove()
    assert not server.directory.exists()


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_an_empty_redis(redis_url: str, turn: int) -> None:
    client = RedisClient.from_url(redis_url)
    assert await client.keys("*") == []
    await client.set("left", "behind")
    await client.aclose()


def test_node_runs(node: Node) -> None:
    said = subprocess.run([node.program, "-p", "6 * 7"], capture_output=True, text=True, check=True, timeout=30)
    assert said.stdout == "42\n"


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("@anthropic-ai/claude-code", ["--version"], VERSIONS["@anthropic-ai/claude-code"]),
        ("@modelcontextprotocol/conformance", ["--version"], VERSIONS["@modelcontextprotocol/conformance"]),
        ("@modelcontextprotocol/inspector", ["--version"], VERSIONS["@modelcontextprotocol/inspector"]),
        ("@modelcontextprotocol/server-everything", ["nonsense"], "nonsense"),
    ],
)
def test_npm_programs_run(
    npm_package: Callable[[str], NpmPackage], node: Node, name: str, arguments: list[str], answer: str
) -> None:
    command = [*npm_package(name).command(), *arguments]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=node.env, stdin=subprocess.DEVNULL, check=False
    )
    assert answer in said.stdout + said.stderr


def test_npm_libraries_can_be_imported(npm_package: Callable[[str], NpmPackage], node: Node) -> None:
    sdk = npm_package("@modelcontextprotocol/sdk")
    script = "import('@modelcontextprotocol/sdk/client/index.js').then(m => console.log(typeof m.Client))"
    said = subprocess.run(
        [node.program, "-e", script], cwd=sdk.directory, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "function\n"


def test_nginx_and_the_compiler_run(nginx: Path, gcc: Path) -> None:
    for program, flag in ((nginx, "-v"), (gcc, "--version")):
        assert subprocess.run([program, flag], capture_output=True, timeout=30).returncode == 0


def test_installing_gives_up_after_three_tries_with_the_last_words(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    command = ["sh", "-c", f"echo x >>{tries}; echo no such package >&2; exit 1"]
    with pytest.raises(ComponentMissing, match="no such package"):
        attempt("thing", [command], dict(os.environ))
    assert tries.read_text() == "x\n" * 3


def test_a_missing_component_is_looked_for_once() -> None:
    looked: list[int] = []

    @tried_once
    def find() -> Path:
        looked.append(1)
        raise ComponentMissing("thing", "nowhere")

    for _ in range(3):
        with pytest.raises(ComponentMissing):
            find()
    assert looked == [1]


def test_the_closing_lines_name_components_with_their_tests() -> None:
    missing = str(ComponentMissing("thing", "nowhere\nto be seen"))
    skipped = [
        ("b.py::two", f"Skipped: {missing}"),
        ("a.py::one", f"Skipped: {missing}"),
        ("c.py::x", "Skipped: other"),
    ]
    assert closing_lines(skipped)[1:] == ["  thing: nowhere to be seen", "    a.py::one", "    b.py::two"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_without_a_component_leaves_its_test_out_and_says_so(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_sample.py").write_text("def test_engine(docker_engine): ...\ndef test_other(): ...\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = ["-m", "pytest", "-p", "tests.support.components.fixtures", "-n", workers, "test_sample.py"]
    env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody", "PYTHONPATH": str(CHECKOUT)}
    run = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-3:] == [
        "Components that could not be had, and the tests left out for it:",
        f"  docker-engine: no engine answers at unix://{tmp_path}/nobody",
        "    test_sample.py::test_engine",
    ]
