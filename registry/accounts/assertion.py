"""The gateway's proof to an issuer that it holds a private key: `private_key_jwt`, in the place of a secret.

Sources: RFC 7523, sections 2.2 and 3; RFC 7518 and 8037 for the algorithms. The key is an administrator's, who has told
the issuer its public half; `service` keeps it sealed.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from registry.accounts.errors import AccountInvalid

METHOD = "private_key_jwt"
LASTS = timedelta(minutes=1)
_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_BITS = 2048


def algorithm_of(key: str) -> str:
    """What a private key signs with. Raises `AccountInvalid` for a text that is no such key."""
    try:
        loaded = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AccountInvalid("This is no private key in PEM without a passphrase.", field="private_key") from None
    if isinstance(loaded, RSAPrivateKey) and loaded.key_size >= _RSA_BITS:
        return "RS256"
    if isinstance(loaded, EllipticCurvePrivateKey) and loaded.curve.name in _CURVES:
        return _CURVES[loaded.curve.name]
    if isinstance(loaded, Ed25519PrivateKey):
        return "EdDSA"
    raise AccountInvalid("A key is RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519.", field="private_key")


def proof(key: str, client_id: str, issuer: str, now: datetime) -> dict[str, str]:
    """The fields of a token request that show the key; they serve for a minute, and for this issuer only."""
    import jwt  # heavy; few gateways have such a key

    claims: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": issuer,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + LASTS,
    }
    return {
        "client_assertion_type": _TYPE,
        "client_assertion": jwt.encode(claims, key, algorithm=algorithm_of(key)),
    }
