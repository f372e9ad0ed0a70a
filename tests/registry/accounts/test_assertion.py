"""A private key in the place of a secret: what it signs, and which keys are taken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from registry.accounts.assertion import LASTS, algorithm_of, proof
from registry.accounts.errors import AccountInvalid

KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(key: Any, encryption: Any = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_proof_is_for_one_issuer_and_one_minute(algorithm: str) -> None:
    text, now = pem(KEYS[algorithm]), datetime.now(UTC).replace(microsecond=0)
    first, second = (proof(text, "here", "https://issuer.example", now) for _ in range(2))
    assert first["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    public = KEYS[algorithm].public_key()
    seen: set[str] = set()
    for form in (first, second):
        said = jwt.decode(form["client_assertion"], public, [algorithm], audience="https://issuer.example")
        assert (said["iss"], said["sub"]) == ("here", "here")
        assert (said["iat"], said["exp"] - said["iat"]) == (now.timestamp(), LASTS.total_seconds())
        seen.add(said["jti"])
    assert len(seen) == 2, "each serves once"
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(first["client_assertion"], public, [algorithm], audience="https://other.example")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        KEYS["ES256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        pem(KEYS["ES256"], BestAvailableEncryption(b"secret")),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP256K1())),
    ],
    ids=["text", "public", "encrypted", "short", "curve"],
)
def test_a_key_that_cannot_sign_is_refused(text: str) -> None:
    with pytest.raises(AccountInvalid) as refused:
        algorithm_of(text)
    assert text not in str(refused.value)
