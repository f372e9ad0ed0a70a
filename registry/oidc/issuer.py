"""One issuer: its metadata and its keys, fetched when needed and kept for a while; and tokens checked against them.

Sources: OpenID Connect Discovery 1.0, RFC 8414, RFC 7517, RFC 8725. A token's header chooses neither the algorithm nor
the key's origin: it names one of the issuer's keys, and that is all that is taken from it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from registry.core.clock import Clock
from registry.core.egress import EgressClient, vet_url
from registry.core.errors import GatehouseError
from registry.oidc.errors import ForeignTokenInvalid, IssuerBroken

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
KEPT_SECONDS = 3600.0
LOOK_AGAIN_SECONDS = 10.0
"""A key that is not known yet has the issuer asked anew, so often at most."""
FETCH_SECONDS = 10.0
MAX_BYTES = 256 * 1024
LEEWAY_SECONDS = 60
_KINDS = frozenset({"RSA", "EC", "OKP"})
_MAX_TOKEN = 16 * 1024


@dataclass(slots=True)
class _Kept:
    value: Any
    at: float


class Issuer:
    """An issuer by its exact name.

    Args:
        url: its issuer identifier, as tokens have it.
        jwks_uri: where its keys are; unset, its metadata says so.
    """

    def __init__(self, url: str, egress: EgressClient, clock: Clock, jwks_uri: str | None = None) -> None:
        self.url = url
        self._egress = egress
        self._clock = clock
        self._jwks_uri = jwks_uri
        self._metadata: _Kept | None = None
        self._keys: _Kept | None = None
        self._looked_again = float("-inf")
        self._lock = asyncio.Lock()

    async def metadata(self) -> dict[str, Any]:
        """What the issuer says of itself. Raises `IssuerBroken`."""
        async with self._lock:
            return await self._current_metadata()

    async def _current_metadata(self) -> dict[str, Any]:
        if self._metadata is None or self._old(self._metadata):
            said = await self._fetch(self.url.rstrip("/") + "/.well-known/openid-configuration")
            if said.get("issuer") != self.url:
                raise IssuerBroken(f"The metadata at {self.url} is another issuer's.")
            self._metadata = _Kept(said, self._clock.monotonic())
        return cast("dict[str, Any]", self._metadata.value)

    def endpoint(self, metadata: dict[str, Any], name: str) -> str:
        """An address in the metadata. Raises `IssuerBroken` for what is no address to send anybody to."""
        url = metadata.get(name)
        if not isinstance(url, str):
            raise IssuerBroken(f"The metadata of {self.url} has no {name}.")
        # An issuer over https has no business elsewhere.
        vet(url, schemes=("https",) if self.url.startswith("https:") else ("http", "https"))
        return url

    async def verified(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token of this issuer for this audience.

        Raises:
            ForeignTokenInvalid: anything else.
            IssuerBroken: its keys cannot be had.
        """
        # Heavy vendor, imported with the first token.
        import jwt

        invalid = ForeignTokenInvalid(f"The token of {self.url} is not valid.")
        if len(token) > _MAX_TOKEN:
            raise invalid
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise invalid from None
        if header.get("alg") not in ALGORITHMS:
            raise invalid
        key = await self._key(header.get("kid"))
        try:
            # Times are checked below, against the injected clock.
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(key, header["alg"]),
                algorithms=[header["alg"]],
                audience=audience,
                issuer=self.url,
                options={
                    "require": ["iss", "aud", "exp", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, TypeError, ValueError):
            raise invalid from None
        self._check_times(claims, invalid)
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise invalid
        return claims | {"typ": str(header.get("typ", ""))}

    def _check_times(self, claims: dict[str, Any], invalid: ForeignTokenInvalid) -> None:
        now = self._clock.now().timestamp()
        times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
        if not all(isinstance(value, int | float) for value in times.values()):
            raise invalid
        if times["exp"] <= now - LEEWAY_SECONDS:
            raise ForeignTokenInvalid(f"The token of {self.url} has expired.")
        if any(times.get(name, 0) > now + LEEWAY_SECONDS for name in ("nbf", "iat")):
            raise invalid

    async def _key(self, kid: object) -> dict[str, Any]:
        async with self._lock:
            if self._keys is None or self._old(self._keys):
                await self._load_keys()
            found = self._named(kid)
            now = self._clock.monotonic()
            if found is None and now - self._looked_again >= LOOK_AGAIN_SECONDS:
                # The issuer may have new keys. Whoever makes names up must not make us ask all the time.
                self._looked_again = now
                await self._load_keys()
                found = self._named(kid)
        if found is None:
            raise ForeignTokenInvalid(f"The token of {self.url} is signed with a key that is not its.")
        return found

    def _named(self, kid: object) -> dict[str, Any] | None:
        keys = cast("list[dict[str, Any]]", self._keys.value) if self._keys else []
        if kid is None:
            return keys[0] if len(keys) == 1 else None
        return next((key for key in keys if key.get("kid") == kid), None)

    async def _load_keys(self) -> None:
        uri = self._jwks_uri or self.endpoint(await self._current_metadata(), "jwks_uri")
        listed = (await self._fetch(uri)).get("keys")
        if not isinstance(listed, list):
            raise IssuerBroken(f"The keys of {self.url} are no list.")
        keys: list[dict[str, Any]] = [
            cast("dict[str, Any]", key) for key in cast("list[Any]", listed) if isinstance(key, dict)
        ]
        # Shared secrets and keys for encryption sign nothing.
        usable = [key for key in keys if key.get("kty") in _KINDS and key.get("use", "sig") == "sig"]
        self._keys = _Kept(usable, self._clock.monotonic())

    def _old(self, kept: _Kept) -> bool:
        return self._clock.monotonic() - kept.at >= KEPT_SECONDS

    async def _fetch(self, url: str) -> dict[str, Any]:
        try:
            answer = await self._egress.request(
                "GET", url, headers={"Accept": "application/json"}, timeout=FETCH_SECONDS, max_bytes=MAX_BYTES
            )
            said = answer.json()
        except GatehouseError as error:
            raise IssuerBroken(f"{self.url} cannot be asked: {error.message}") from None
        if answer.status != 200 or not isinstance(said, dict):
            raise IssuerBroken(f"{self.url} answered {answer.status} where its metadata or keys should be.")
        return cast("dict[str, Any]", said)


def vet(url: str, schemes: tuple[str, ...]) -> None:
    """Raises `IssuerBroken` for an address that nobody may be sent to."""
    try:
        vet_url(url, schemes=schemes)
    except GatehouseError as error:
        raise IssuerBroken(f"An address of the issuer's is not usable: {error.message}") from None
