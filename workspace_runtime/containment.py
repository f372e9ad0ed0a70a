"""How a container is held: a spec as the engine's own words. What holds what is written here and nowhere else.

Whatever runs inside is one user without rights on a file system that it cannot write, but for its volume and memory.
It has no network interface but its own loopback, whatever the policy: allowed hosts are reached through lines that
the gateway holds (`workspace_runtime.tunnel`). So there is no address from which host, database, engine, metadata
service or another container could be reached, and no packet filter to be set on a machine that may be remote.
"""

from __future__ import annotations

from typing import Any

from workspace_runtime.inside.proxy import PORT
from workspace_runtime.runtime import ROOT, ContainerSpec, Network

USER = "10001:10001"
HOME = "/home/agent"
HOME_BYTES = 64 * 1024 * 1024
RUN = "/run/gatehouse"
SOCKET = f"{RUN}/mcp.sock"
PROXY_SOCKET = f"{RUN}/egress.sock"
CODE = "/opt/gatehouse"
LOG = {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}

PYTHON = ["python3", "-I", "-S", "-B"]
"""Isolated from the workspace: neither its variables nor its folders decide what is imported."""
RELAY = [*PYTHON, f"{CODE}/workspace_runtime/inside/relay.py"]


def program(module: str, call: str) -> list[str]:
    """The words that run a function of `workspace_runtime.inside`."""
    code = f"import sys; sys.path.insert(0, {CODE!r}); from workspace_runtime.inside import {module}; {module}.{call}"
    return [*PYTHON, "-c", code]


SERVER = program("main", "main()")
ATTEND = program("attend", "main()")
"""Followed by `tied` or `free`, and the words of a command."""


def environment(spec: ContainerSpec, *, engine_quota: bool) -> dict[str, str]:
    """What everything inside sees."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PIP_NO_CACHE_DIR": "1",
        "PYTHONUNBUFFERED": "1",
        **spec.env,
        "HOME": HOME,
        "GATEHOUSE_ROOT": ROOT,
        "GATEHOUSE_SOCKET": SOCKET,
        "GATEHOUSE_QUOTA": "0" if engine_quota else str(spec.limits.disk_bytes),
    }
    return env | way_out(spec, PROXY_SOCKET)


def way_out(spec: ContainerSpec, socket: str) -> dict[str, str]:
    """The variables that tell programs of the proxy, and our server to have one."""
    if spec.network is Network.NONE:
        return {}
    proxy = f"http://127.0.0.1:{PORT}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    local = {"no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}
    return {**dict.fromkeys(names, proxy), **local, "GATEHOUSE_PROXY": socket}


def host_config(spec: ContainerSpec, *, engine_runtime: str | None, code_volume: str | None) -> dict[str, Any]:
    """The engine's `HostConfig`.

    Args:
        engine_runtime: as `runsc`; the engine's default if `None`.
        code_volume: holds our server, for images that do not.
    """
    limits = spec.limits
    owned = "uid=10001,gid=10001,nosuid,nodev"
    mounts: list[dict[str, Any]] = [{"Type": "volume", "Source": spec.volume, "Target": ROOT}]
    if code_volume is not None:
        # The engine would give an empty volume the owner that this folder has in such an image: root.
        mounts[0]["VolumeOptions"] = {"NoCopy": True}
        mounts.append({"Type": "volume", "Source": code_volume, "Target": CODE, "ReadOnly": True})
    config: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": f"size={limits.tmp_bytes},mode=1777,nosuid,nodev,exec",  # noqa: S108 - inside
            HOME: f"size={HOME_BYTES},mode=0700,exec,{owned}",
            RUN: f"size=1m,mode=0700,noexec,{owned}",
        },
        "Mounts": mounts,
        "NetworkMode": "none",
        "IpcMode": "private",
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # the two together: no swap
        "NanoCpus": int(limits.cpus * 1e9),
        "PidsLimit": limits.pids,
        "Ulimits": [
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": limits.disk_bytes, "Hard": limits.disk_bytes},
        ],
        "ShmSize": 16 * 1024 * 1024,
        "Init": True,  # a first process that passes signals on and buries the dead
        "LogConfig": LOG,
        "RestartPolicy": {"Name": "no"},  # whoever wants it running starts it
    }
    if engine_runtime:
        config["Runtime"] = engine_runtime
    return config
