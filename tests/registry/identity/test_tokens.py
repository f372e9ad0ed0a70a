"""What is no access token of ours is none, whatever it claims."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from registry.core.security import derive_key
from registry.identity.tokens import AccessTokens, TokenInvalid
from tests.support.attacks import attack
from tests.support.clock import SettableClock
from tests.support.identity import MASTER

HOLDER = {"user_id": "u", "org_id": "o", "role": "admin", "session_id": "s"}
KEY = derive_key(MASTER, "access-tokens")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def tokens(clock: SettableClock) -> AccessTokens:
    return AccessTokens(MASTER, clock, 60)


def _claims(tokens: AccessTokens) -> dict[str, Any]:
    return jwt.decode(tokens.issue(**HOLDER), options={"verify_signature": False})


def _forged(claims: dict[str, Any], **header: Any) -> str:
    return jwt.encode(claims, KEY, algorithm="HS256", headers={"typ": "at+jwt"} | header)


def test_a_token_says_whose_it_is_until_it_expires(tokens: AccessTokens, clock: SettableClock) -> None:
    token = tokens.issue(**HOLDER)
    claims = tokens.verify(token)
    assert (claims.user_id, claims.org_id, claims.role, claims.session_id) == ("u", "o", "admin", "s")
    assert {"sub", "org", "role", "exp", "iat"} <= _claims(tokens).keys()
    clock.advance(3599)
    tokens.verify(token)
    clock.advance(1)
    with pytest.raises(TokenInvalid, match="expired"):
        tokens.verify(token)


def test_the_forgery_kit_itself_can_make_a_good_token(tokens: AccessTokens) -> None:
    assert tokens.verify(_forged(_claims(tokens))).user_id == "u"


@attack(17)
@pytest.mark.parametrize(
    "change",
    [
        {"aud": "another"},
        {"aud": ["another"]},
        {"iss": "another"},
        {"exp": "soon"},
        {"sub": 7},
        {"sub": ""},
        {"iat": 10**11},
        {"exp": 0},
    ],
)
def test_wrong_claims_are_refused(tokens: AccessTokens, change: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        tokens.verify(_forged(_claims(tokens) | change))


@attack(17)
@pytest.mark.parametrize("name", ["sub", "org", "role", "sid", "exp", "iat", "iss", "aud", "jti"])
def test_missing_claims_are_refused(tokens: AccessTokens, name: str) -> None:
    claims = _claims(tokens)
    del claims[name]
    with pytest.raises(TokenInvalid):
        tokens.verify(_forged(claims))


@attack(17)
@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": "id+jwt"}])
def test_another_kind_of_token_is_refused(tokens: AccessTokens, header: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        tokens.verify(_forged(_claims(tokens), **header))


@attack(17)
def test_headers_do_not_choose_the_key(tokens: AccessTokens) -> None:
    other = derive_key(MASTER, "another")
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(other).decode()}
    for header in (
        {"kid": "../../etc/passwd"},
        {"jku": "http://127.0.0.1:1/"},
        {"jwk": jwk},
        {"x5u": "http://127.0.0.1:1/"},
    ):
        token = jwt.encode(_claims(tokens), other, algorithm="HS256", headers={"typ": "at+jwt"} | header)
        with pytest.raises(TokenInvalid):
            tokens.verify(token)


@attack(17)
def test_other_algorithms_are_refused(tokens: AccessTokens) -> None:
    claims = _claims(tokens)
    typ = {"typ": "at+jwt"}
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    candidates = [
        jwt.encode(claims, None, algorithm="none", headers=typ),
        jwt.encode(claims, pem, algorithm="RS256", headers=typ),
        jwt.encode(claims, KEY * 2, algorithm="HS512", headers=typ),
        _by_hand(claims, "HS256", public),
        _by_hand(claims, "none", KEY),
        _by_hand(claims, "None", KEY),
    ]
    for token in candidates:
        with pytest.raises(TokenInvalid):
            tokens.verify(token)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "..", "é.é.é", "a.b.c\n", "a" * 5000 + ".b.c"])
def test_what_is_no_token_is_refused(tokens: AccessTokens, text: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.verify(text)


@attack(17)
def test_a_changed_token_is_refused(tokens: AccessTokens) -> None:
    header, payload, signature = tokens.issue(**HOLDER).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    raised = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "root"}).encode()).decode().rstrip("=")
    for token in (f"{header}.{raised}.{signature}", f"{header}.{payload}.", f"{header}.{payload}.{signature[:-4]}AAAA"):
        with pytest.raises(TokenInvalid):
            tokens.verify(token)


def _by_hand(claims: dict[str, Any], algorithm: str, key: bytes) -> str:
    """Signed with HMAC whatever the key is meant for, which the library itself would refuse to do."""
    import hashlib
    import hmac

    parts = [{"alg": algorithm, "typ": "at+jwt"}, claims]
    signed = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
