"""What every part stands on: settings, keys, clock, events, database, the way out. Made once, knows no feature."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from gateway.api.shared.client import ClientAddress
from gateway.api.shared.hosts import HostPolicy
from gateway.auth.origin import Origin
from registry.core.clock import SystemClock
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy, parse_allow
from registry.core.events import EventBus
from registry.core.security import load_master_key

if TYPE_CHECKING:
    from registry.core.settings import Settings


def local_mode(settings: Settings, host: str) -> bool:
    """Listening on loopback only, with no sign of a proxy in front: private upstreams are allowed (DESIGN §3)."""
    if settings.public_url or settings.trusted_proxies:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named(host: str) -> str:
    """A name that clients on this machine can use for the listening host."""
    everywhere = host in ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
    name = "127.0.0.1" if everywhere else host
    return f"[{name}]" if ":" in name else name


class Ground:
    """The parts without a feature of their own.

    Args:
        host, port: where the gateway listens, for its own address and the allowed values of `Host`.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self.settings = settings
        self.host = host
        self.url = settings.public_url or f"http://{_named(host)}:{port}"
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        given = settings.secret_key.get_secret_value() if settings.secret_key else None
        self.master = load_master_key(given, settings.data_dir)
        self.clock = SystemClock()
        self.events = EventBus()
        self.database = Database(settings.resolved_database_url, self.events)
        allow = parse_allow(settings.egress_allow or ())
        self.egress = Egress(EgressPolicy(allow=allow, local_mode=local_mode(settings, host)))
        self.addresses = ClientAddress(settings.trusted_proxies)
        self.origin = Origin(settings.public_url, self.url)
        self.hosts = HostPolicy(host, settings.public_url, settings.allowed_hosts)
