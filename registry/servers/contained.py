"""A stdio server that runs in a container instead of on the gateway's machine: what is said of it at registration.

What runs it is `registry.workspaces.programs`, which holds it like a workspace. Which hosts may be named is decided
here for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Network = Literal["none", "allowlist", "open"]
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Contained:
    """Args:
    image: another than the gateway's own; it must be on the operator's list.
    network: what it reaches: nothing, the hosts that are named, or anything public.
    hosts: for the network `allowlist`: `example.org`, `*.example.org`, with an optional port.
    """

    image: str | None = None
    network: Network = "none"
    hosts: tuple[str, ...] = ()


def complaint(network: str | None, hosts: tuple[str, ...]) -> tuple[str, str] | None:
    """What is wrong with a network and its hosts: the field, and a sentence."""
    if bool(hosts) != (network == "allowlist"):
        return "network", "The network 'allowlist' comes with allowed_hosts, the others without."
    for host in hosts:
        if not _HOST.fullmatch(host):
            return "allowed_hosts", f"{host!r} is no host: use example.org or *.example.org:443."
    return None


def pack(contained: Contained | None) -> dict[str, Any] | None:
    """As it is stored and shown."""
    if contained is None:
        return None
    return {"image": contained.image, "network": contained.network, "allowed_hosts": list(contained.hosts)}


def unpack(stored: dict[str, Any] | None) -> Contained | None:
    return Contained(stored["image"], stored["network"], tuple(stored["allowed_hosts"])) if stored else None
