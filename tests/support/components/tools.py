"""Programs that tests and the benchmark run as they are: nginx, a C compiler, Docker's engine and its compose."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.components.machine import have, on_path
from tests.support.components.missing import ComponentMissing, tried_once


@tried_once
def nginx_program() -> Path:
    return have("nginx", on_path("nginx"), "nginx-light")


@tried_once
def c_compiler() -> Path:
    return have("gcc", on_path("gcc", "cc"), "gcc", "libc6-dev")


@tried_once
def docker_compose() -> list[str]:
    """The words that run compose: the engine's plugin, else the program of its own."""
    docker = on_path("docker")()
    if docker is not None:
        plugin = [str(docker), "compose"]
        if subprocess.run([*plugin, "version"], capture_output=True, timeout=30).returncode == 0:
            return plugin
    return [str(have("docker-compose", on_path("docker-compose"), "docker-compose"))]


@tried_once
def docker_engine() -> str:
    """The address (`DOCKER_HOST`) of an engine that answers. It is not installed: it belongs to the machine."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    url = urlsplit(address)
    with contextlib.suppress(OSError), _connect(url.scheme, url.path, url.hostname, url.port) as connection:
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        if b" 200 " in connection.recv(1024):
            return address
    raise ComponentMissing("docker-engine", f"no engine answers at {address}")


def _connect(scheme: str, path: str, host: str | None, port: int | None) -> socket.socket:
    if scheme != "unix":
        return socket.create_connection((host or "127.0.0.1", port or 2375), timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
