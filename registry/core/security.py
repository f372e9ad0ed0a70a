"""Keys, seals and digests: the cryptography that features use, so that none of them picks an algorithm.

One master key, from the settings or made in the data dir, gives a key for each purpose (HKDF-SHA256); nothing is ever
signed or encrypted with the master key itself. Who may do what is not decided here: that is `registry.identity`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import string
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from registry.core.errors import GatehouseError
from registry.core.settings import MIN_KEY_BYTES, check_secret

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SECRET_FILE = "secret.key"

_NONCE = 12
_KEY_PREFIX_LENGTH = 8
_KEY_ALPHABET = string.ascii_lowercase + string.digits
_KEY_SHAPE = re.compile(r"mcp_([A-Za-z0-9-]{1,32})_([\x21-\x7e]{32,256})")
_NO_DIGEST = "0" * 64


class SecretFileInvalid(GatehouseError):
    code = "SECRET_FILE_INVALID"
    title = "Secret file invalid"


class SealBroken(GatehouseError):
    """Not sealed by this key for this place, or altered since."""

    code = "SEAL_BROKEN"
    title = "Seal broken"


class WeakSecret(GatehouseError):
    """A preset secret that must not be used."""

    code = "WEAK_SECRET"
    title = "Weak secret"


def load_master_key(secret_key: str | None, data_dir: Path) -> bytes:
    """The key that all others come from: `secret_key` where it is set, else the one kept in the data dir.

    Raises:
        SecretFileInvalid: the file is there but too short to be a key.
    """
    if secret_key is not None:
        return secret_key.encode()
    path = data_dir / SECRET_FILE
    key = kept_secret(path, lambda: secrets.token_bytes(MIN_KEY_BYTES))
    if len(key) < MIN_KEY_BYTES:
        raise SecretFileInvalid(
            f"{path} holds {len(key)} bytes where {MIN_KEY_BYTES} are needed: restore it from a backup, or remove it "
            "and register keys and credentials anew."
        )
    return key


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`, made at the first call (mode 0600). Processes that start at once get the same one."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    draft = _write_draft(path, make())
    try:
        # A link appears whole or not at all, and never replaces what another process was first to put there.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_bytes()


def write_private(path: Path, content: str) -> None:
    """Replace `path` by `content` in one step, readable by its owner only."""
    _write_draft(path, content.encode()).replace(path)


def _write_draft(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def derive_key(master: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose. The same purpose always gives the same key; no two purposes share one."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"gatehouse/{purpose}".encode()).derive(master)


class Sealer:
    """Encrypts small values so that they open only in the place they were sealed for (AES-256-GCM).

    Args:
        master: the master key.
        purpose: what is sealed; each purpose has a key of its own.
    """

    def __init__(self, master: bytes, purpose: str) -> None:
        self._cipher = AESGCM(derive_key(master, f"seal/{purpose}"))

    def seal(self, content: bytes, aad: str) -> str:
        """Seal `content` for the place that `aad` names (the row, or the holder); URL-safe text."""
        nonce = os.urandom(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, content, aad.encode())).decode()

    def open(self, sealed: str, aad: str) -> bytes:
        """What was sealed for `aad`. Raises `SealBroken` for anything else."""
        try:
            raw = base64.b64decode(sealed, altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != sealed:
                # Another spelling of the same bytes: who keeps a list of sealed values would not know it again.
                raise ValueError(sealed)
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], aad.encode())
        except (binascii.Error, ValueError, InvalidTag):
            raise SealBroken("A sealed value cannot be opened: it was altered, or sealed under another key.") from None


class Digester:
    """Keyed digests of random tokens, so that a copy of the database holds nothing that opens a door."""

    def __init__(self, master: bytes, purpose: str) -> None:
        self._key = derive_key(master, f"digest/{purpose}")

    def digest(self, token: str) -> str:
        """64 hexadecimal characters."""
        return hmac.digest(self._key, token.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()

    def matches(self, token: str, digest: str | None) -> bool:
        """Constant-time comparison, with the same work for `None` (nothing known to compare with)."""
        same = hmac.compare_digest(self.digest(token), digest or _NO_DIGEST)
        return same and digest is not None


@dataclass(frozen=True, slots=True)
class MintedKey:
    """An API key at the only moment its text is known. `text` is left out of `repr`, and so of logs."""

    text: str = field(repr=False)
    prefix: str
    digest: str = field(repr=False)


class ApiKeys:
    """The form of API keys: `mcp_<prefix>_<secret>`, of which the prefix and a digest of the secret are stored."""

    def __init__(self, master: bytes) -> None:
        self._digester = Digester(master, "api-keys")

    def mint(self) -> MintedKey:
        """A new key with a 256-bit secret."""
        prefix = "".join(secrets.choice(_KEY_ALPHABET) for _ in range(_KEY_PREFIX_LENGTH))
        secret = secrets.token_urlsafe(32)
        return MintedKey(f"mcp_{prefix}_{secret}", prefix, self._digester.digest(secret))

    def adopt(self, text: str, source: str) -> MintedKey:
        """A key that somebody else chose. Raises `WeakSecret`, which names `source` and never the key."""
        parts = self.split(text)
        if parts is None:
            raise WeakSecret(f"{source} must have the form mcp_<prefix>_<secret of 32 or more characters>.")
        prefix, secret = parts
        try:
            check_secret(source, secret)
        except ValueError as error:
            raise WeakSecret(f"{error}.") from None
        return MintedKey(text, prefix, self._digester.digest(secret))

    @staticmethod
    def split(text: str) -> tuple[str, str] | None:
        """Prefix and secret, or `None` if `text` is not of the form of a key."""
        found = _KEY_SHAPE.fullmatch(text)
        return (found[1], found[2]) if found else None

    def matches(self, secret: str, digest: str | None) -> bool:
        """As `Digester.matches`: an unknown prefix costs what a wrong secret costs."""
        return self._digester.matches(secret, digest)


class Passwords:
    """Argon2id in worker threads, a few at a time, so that logins neither block the loop nor fill the memory."""

    # Parameters that OWASP recommends: 19 MiB and two passes, about 25 ms.
    _KIB = 19 * 1024
    _PASSES = 2
    _LANES = 1
    _AT_ONCE = 4

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(self._AT_ONCE)
        self._made: PasswordHasher | None = None

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher().hash, password)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the stored one, with the same work where nothing is stored."""
        async with self._slots:
            same = await asyncio.to_thread(self._verify, password, stored or self._nobodys())
        return same and stored is not None

    def _verify(self, password: str, stored: str) -> bool:
        # Heavy vendor, imported at the first login.
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher().verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    def _hasher(self) -> PasswordHasher:
        if self._made is None:
            # Heavy vendor, imported at the first login.
            from argon2 import PasswordHasher

            self._made = PasswordHasher(self._PASSES, self._KIB, self._LANES)
        return self._made

    def _nobodys(self) -> str:
        """A well-formed hash with our parameters that no password has."""
        salt, value = (base64.b64encode(bytes(size)).decode().rstrip("=") for size in (16, 32))
        return f"$argon2id$v=19$m={self._KIB},t={self._PASSES},p={self._LANES}${salt}${value}"
