"""`Idempotency-Key` on requests that create: the first result again, whoever did not hear it the first time.

Only what succeeded is kept; what failed has left nothing behind and may be tried again under the same key. The result
is stored in the request's own transaction by `registry.core.idempotency`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.shared.errors import BadRequest
from registry.core.db import Session
from registry.core.idempotency import IdempotencyStore, KeptResult
from registry.identity.principal import Principal

HEADER = "idempotency-key"
REPLAYED = "Idempotent-Replayed"

_SHAPE = re.compile(r"[\x21-\x7e]{1,255}")


async def run_once(
    store: IdempotencyStore,
    session: Session,
    principal: Principal,
    request: Request,
    key: str,
    handle: Callable[[Request], Awaitable[Response]],
) -> Response:
    """The answer of `handle`, or the one it gave the first time.

    Raises:
        BadRequest: the key is no key.
        IdempotencyKeyReused: the key came with another body before.
    """
    if not _SHAPE.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 255 printable characters without spaces.")
    scope = _digest(principal.org_id, principal.subject, request.method, request.url.path, key)
    fingerprint = _digest(request.url.query, hashlib.sha256(await request.body()).hexdigest())
    kept = await store.claim(session, scope, fingerprint)
    if kept is not None:
        return Response(kept.body, kept.status, {REPLAYED: "true"}, media_type="application/json")
    response = await handle(request)
    await store.keep(session, scope, KeptResult(response.status_code, bytes(response.body)))
    return response


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
