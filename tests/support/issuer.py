"""An issuer that says whatever a test has it say: metadata, keys and tokens of its own making."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class FakeIssuer:
    """Args:
    url: its address, and its name unless `metadata` says otherwise.
    answer: makes the claims of an id token from the form of the token request.
    """

    url: str
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"one": new_key()})
    answer: Callable[[dict[str, str]], dict[str, Any]] = lambda form: {}
    forms: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def token(self, claims: dict[str, Any], *, kid: str = "one", **headers: Any) -> str:
        now = int(time.time())
        whole = {"iss": self.url, "sub": "ada", "iat": now, "exp": now + 60} | claims
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, self.keys[kid], algorithm="RS256", headers={"kid": kid} | headers)

    def public_key(self, kid: str = "one") -> dict[str, Any]:
        return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[kid].public_key())), "kid": kid}

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/.well-known/openid-configuration":
            said = {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "end_session_endpoint": f"{self.url}/logout",
            }
            return web.json_response(said | self.metadata)
        if request.path == "/keys":
            return web.json_response({"keys": [self.public_key(kid) for kid in self.keys]})
        if request.path == "/token":
            form = {name: str(value) for name, value in (await request.post()).items()}
            self.forms.append(form)
            return web.json_response(
                {"access_token": "a", "token_type": "Bearer", "id_token": self.token(self.answer(form))}
            )
        return web.Response(status=404)


@asynccontextmanager
async def fake_issuer() -> AsyncIterator[FakeIssuer]:
    made = FakeIssuer("")
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
