"""An authorization request: read strictly, shown to a person, and answered with a code.

What has been read travels through the consent page sealed for the person's login session, so that the answer is to
the request that was shown, and no other site can give it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

import msgspec

from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.errors import Forbidden
from registry.core.security import SealBroken, Sealer
from registry.identity.principal import Principal
from registry.oauth import redirects
from registry.oauth.clients import OAuthClients
from registry.oauth.documents import Client
from registry.oauth.errors import ClientUnknown, OAuthRefused
from registry.oauth.scopes import DEFAULT_AUDIENCE, audience_of, scopes_wanted

SHOWN_FOR = timedelta(minutes=15)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_STATE = 4096


class ConsentExpired(Forbidden):
    """The page was open for too long, or belongs to another session."""

    code = "CONSENT_EXPIRED"


class Wish(msgspec.Struct, frozen=True):
    """What a client asks a person for."""

    client_id: str
    client_name: str
    client_host: str | None
    redirect_uri: str
    redirect_given: bool
    scopes: tuple[str, ...]
    audience: str
    challenge: str
    state: str | None
    expires_at: float = 0.0


class RefusedToClient(OAuthRefused):
    """A refusal that the browser brings back to the client."""

    def __init__(self, refused: OAuthRefused, redirect_uri: str, state: str | None) -> None:
        super().__init__(refused.error, refused.message)
        self.redirect_uri = redirect_uri
        self.state = state


class Consents:
    """Reads wishes, and carries them through the page."""

    def __init__(self, clock: Clock, clients: OAuthClients, master: bytes) -> None:
        self._clock = clock
        self._clients = clients
        self._sealer = Sealer(master, "oauth-consents")

    async def read(self, session: Session, base: str, parameters: Mapping[str, str]) -> Wish:
        """The wish in an authorization request's parameters.

        Args:
            base: the gateway's address, as the person's browser has it.

        Raises:
            ClientUnknown: there is nobody to send an answer to.
            RefusedToClient: the client is known, and is told what is wrong.
        """
        client = await self._clients.find(session, parameters.get("client_id", ""))
        given = parameters.get("redirect_uri")
        uri = given or (client.redirect_uris[0] if len(client.redirect_uris) == 1 else "")
        if not redirects.matches(list(client.redirect_uris), uri):
            raise ClientUnknown("The redirect address is none of the client's.")
        state = parameters.get("state")
        try:
            return _wish(client, uri, base, parameters)
        except OAuthRefused as refused:
            raise RefusedToClient(refused, uri, state if state and len(state) <= _MAX_STATE else None) from None

    def seal(self, principal: Principal, wish: Wish) -> str:
        """The wish as the page carries it."""
        until = (self._clock.now() + SHOWN_FOR).timestamp()
        return self._sealer.seal(
            msgspec.json.encode(msgspec.structs.replace(wish, expires_at=until)), _place(principal)
        )

    def open(self, principal: Principal, sealed: str) -> Wish:
        """The wish that this person was shown. Raises `ConsentExpired`."""
        try:
            wish = msgspec.json.decode(self._sealer.open(sealed, _place(principal)), type=Wish)
        except SealBroken:
            raise ConsentExpired("This page belongs to another session: begin again in the application.") from None
        if wish.expires_at < self._clock.now().timestamp():
            raise ConsentExpired("This page was open for too long: begin again in the application.")
        return wish


def _place(principal: Principal) -> str:
    return f"session/{principal.session_id}"


def _wish(client: Client, uri: str, base: str, parameters: Mapping[str, str]) -> Wish:
    if parameters.get("response_type") != "code":
        raise OAuthRefused("unsupported_response_type", "response_type must be code.")
    if "request" in parameters or "request_uri" in parameters:
        raise OAuthRefused("request_not_supported", "Request objects are not supported.")
    if parameters.get("prompt") == "none":
        raise OAuthRefused("interaction_required", "A person is always asked.")
    challenge = parameters.get("code_challenge", "")
    if parameters.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise OAuthRefused("invalid_request", "PKCE is required: a code_challenge with the method S256.")
    state = parameters.get("state")
    if state is not None and len(state) > _MAX_STATE:
        raise OAuthRefused("invalid_request", f"state is longer than {_MAX_STATE} characters.")
    resource = parameters.get("resource")
    return Wish(
        client_id=client.client_id,
        client_name=client.name,
        client_host=client.host,
        redirect_uri=uri,
        redirect_given="redirect_uri" in parameters,
        scopes=scopes_wanted(parameters.get("scope", "")),
        audience=DEFAULT_AUDIENCE if resource is None else audience_of(base, resource),
        challenge=challenge,
        state=state,
    )
