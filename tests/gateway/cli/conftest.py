from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import main
from tests.gateway.cli.fake_gateway import KEY, OPERATOR, FakeGateway


@dataclass
class Ran:
    code: int
    out: str
    err: str


Gatehouse = Callable[..., Ran]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data dir as a first run leaves it, and an environment without other settings."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    first_run = directory / "first-run.txt"
    first_run.write_text(f"url=http://127.0.0.1:8000\nadmin_api_key={KEY}\nagent_api_key={KEY}\n")
    first_run.chmod(0o600)
    token = directory / "operator.token"
    token.write_text(OPERATOR + "\n")
    token.chmod(0o600)
    for name in ("GATEHOUSE_API_KEY", "GATEHOUSE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GATEHOUSE_DATA_DIR", str(directory))
    return directory


@pytest.fixture
def fake(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    gateway = FakeGateway()
    stop = gateway.serve()
    monkeypatch.setenv("GATEHOUSE_URL", gateway.url)
    yield gateway
    stop()


@pytest.fixture
def gatehouse(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gatehouse:
    """Runs the command line in this process, as its entry point does."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["gatehouse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return run
