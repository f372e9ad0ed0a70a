"""What passes between the sign-in pages and a person's browser: cookies, forms, and where to go on afterwards."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway.auth.credentials import SECURE_SESSION_COOKIE, SESSION_COOKIE, session_cookie
from gateway.auth.origin import Origin
from registry.core.db import Database
from registry.core.errors import GatehouseError, Unauthenticated
from registry.identity.principal import Principal
from registry.identity.service import IdentityService, Login

MAX_FORM = 64 * 1024
HOME = "/docs"
"""Where a person goes who came from nowhere."""


class FormInvalid(GatehouseError):
    status = 400
    code = "VALIDATION_ERROR"
    title = "Bad Request"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form, each of them once (RFC 6749 section 3.1). Raises `FormInvalid`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormInvalid("The body must be application/x-www-form-urlencoded.")
    body = await request.body()
    if len(body) > MAX_FORM:
        raise FormInvalid(f"The form is larger than {MAX_FORM} bytes.")
    return single(body.decode("utf-8", "replace"))


def single(query: str) -> dict[str, str]:
    """Parameters of a query or form. Raises `FormInvalid` where one stands twice."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise FormInvalid("There are too many parameters.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormInvalid("A parameter stands there more than once.")
    return found


def next_of(wanted: str | None) -> str:
    """Where to go on: a path of this gateway, whatever was asked for."""
    if not wanted or len(wanted) > MAX_FORM or not wanted.isascii() or not wanted.isprintable():
        return HOME
    # A second slash or a backslash would make it another host's address.
    if not wanted.startswith("/") or wanted[1:2] in ("/", "\\") or "\\" in wanted:
        return HOME
    parts = urlsplit(wanted)
    return HOME if parts.scheme or parts.netloc else wanted


class Browsers:
    """Knows people by their session cookie."""

    def __init__(self, database: Database, identity: IdentityService, origin: Origin) -> None:
        self._database = database
        self._identity = identity
        self._origin = origin

    async def person(self, request: Request) -> Principal | None:
        """Who has signed in in this browser; asked of the database each time."""
        found = session_cookie(request.scope["headers"])
        if found is None:
            return None
        try:
            async with self._database.reading() as session:
                return await self._identity.authenticate_session(session, found.decode("latin-1"))
        except Unauthenticated:
            return None

    async def admit(self, request: Request, response: Response, user_id: str) -> Login:
        """Open a session for somebody who has proved who they are. One that the browser had before ends."""
        before = await self.person(request)
        async with self._database.transaction() as session:
            if before is not None:
                await self._identity.close_session(session, before)
            made = await self._identity.open_session(session, user_id)
        self._set(request, response, made.session_id)
        return made

    async def dismiss(self, request: Request, response: Response) -> None:
        """End the browser's session."""
        person = await self.person(request)
        if person is not None:
            async with self._database.transaction() as session:
                await self._identity.close_session(session, person)
        for name in (SESSION_COOKIE, SECURE_SESSION_COOKIE):
            response.delete_cookie(name, path="/", secure=name == SECURE_SESSION_COOKIE, httponly=True)

    def _set(self, request: Request, response: Response, session_id: str) -> None:
        secure = self.secure(request)
        # Lax: the way back from an identity provider is a navigation from another site.
        name = SECURE_SESSION_COOKIE if secure else SESSION_COOKIE
        response.set_cookie(name, session_id, path="/", secure=secure, httponly=True, samesite="lax")

    def secure(self, request: Request) -> bool:
        """Whether the browser came over HTTPS."""
        return self._origin.of(request.scope).startswith("https://")
