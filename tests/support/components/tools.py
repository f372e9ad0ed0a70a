"""Programs that tests and the benchmark run as they are: nginx, a C compiler, compose."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.components.machine import have, on_path
from tests.support.components.missing import tried_once


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
