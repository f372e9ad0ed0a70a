"""What the command line knows without asking the gateway: its address, and the keys that lie in the data dir.

The data dir's credentials open the gateway that runs on this machine, and are used for nothing else: an address that
is neither loopback nor the one that `first-run.txt` names gets only what `GATEHOUSE_API_KEY` holds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from gateway.cli.errors import KeyRefused, UsageWrong

DEFAULT_URL = "http://127.0.0.1:8000"
FIRST_RUN = "first-run.txt"
OPERATOR_TOKEN = "operator.token"
ADMIN_KEY, AGENT_KEY = "admin_api_key", "agent_api_key"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is, and what opens it.

    Args:
        url: without a slash at its end.
        key: API key; `None` where none was found.
        why_no_key: what to do about a missing key.
        local: the gateway is this machine's own, so the data dir is its.
    """

    url: str
    key: str | None = None
    why_no_key: str = ""
    local: bool = False

    def required_key(self) -> str:
        """Raises `KeyRefused` saying what to set, where there is no key."""
        if self.key is None:
            raise KeyRefused(self.why_no_key)
        return self.key


def data_dir() -> Path:
    return Path(os.environ.get("GATEHOUSE_DATA_DIR") or "~/.gatehouse").expanduser().absolute()


def find_gateway(*names: str) -> Address:
    """The gateway of `GATEHOUSE_URL`, with `GATEHOUSE_API_KEY` or else a key of `first-run.txt`.

    Args:
        names: lines of `first-run.txt` that may give the key, in order of preference; the admin's by default.

    Raises:
        UsageWrong: `GATEHOUSE_URL` is not an address that can be called.
    """
    url = os.environ.get("GATEHOUSE_URL") or DEFAULT_URL
    parts = _split(url)
    if parts is None:
        raise UsageWrong("GATEHOUSE_URL is not an address: write it like http://127.0.0.1:8000, without a user name.")
    url = url.rstrip("/")
    lines, trouble = read_first_run(data_dir())
    local = _loopback(parts.hostname or "") or _same_origin(parts, lines.get("url", ""))
    if key := os.environ.get("GATEHOUSE_API_KEY"):
        return Address(url, key=key.strip(), local=local)
    if not local:
        return Address(url, why_no_key=f"No API key for {url}: set GATEHOUSE_API_KEY.")
    key = next((lines[name] for name in names or (ADMIN_KEY,) if lines.get(name)), None)
    return Address(url, key=key, why_no_key=trouble or _preset(), local=True)


def read_first_run(directory: Path) -> tuple[Mapping[str, str], str]:
    """The `name=value` lines of `first-run.txt`, and what is the matter where they cannot be had."""
    file = directory / FIRST_RUN
    try:
        text = file.read_text()
    except FileNotFoundError:
        where = "set GATEHOUSE_DATA_DIR to the folder that it runs with, or GATEHOUSE_API_KEY to a key"
        return {}, f"No API key: there is no {file}. Start the gateway once (gatehouse serve), or {where}."
    except (OSError, UnicodeDecodeError):
        return {}, f"No API key: {file} cannot be read by this user; set GATEHOUSE_API_KEY."
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}, ""


def operator_token() -> str | None:
    """The proof of access to this machine, where this user may read it."""
    try:
        return (data_dir() / OPERATOR_TOKEN).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _preset() -> str:
    file = data_dir() / FIRST_RUN
    return f"No API key: it was preset by GATEHOUSE_ADMIN_API_KEY, so {file} does not hold it; set GATEHOUSE_API_KEY."


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc and not parts.query and not parts.fragment else None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same_origin(parts: SplitResult, url: str) -> bool:
    other = _split(url) if url else None
    if other is None:
        return False
    ports = {"http": 80, "https": 443}
    return (parts.scheme, parts.hostname, parts.port or ports[parts.scheme]) == (
        other.scheme,
        other.hostname,
        other.port or ports[other.scheme],
    )
