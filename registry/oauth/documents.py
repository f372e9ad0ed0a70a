"""Clients that are known by a document of theirs: their `client_id` is its https address.

Source: draft-ietf-oauth-client-id-metadata-document. The document is fetched by the egress client, without following
redirects, and kept in memory for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from registry.core.clock import Clock
from registry.core.egress import EgressClient
from registry.core.errors import GatehouseError
from registry.oauth import redirects
from registry.oauth.errors import ClientUnknown, OAuthRefused

MAX_BYTES = 5 * 1024
FETCH_SECONDS = 5.0
KEPT_SECONDS = 300.0
MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Client:
    """A client, however it became known.

    Args:
        auth_method: `none`, `client_secret_basic` or `client_secret_post`.
        host: of a client with a document: the only part of its name that is proved.
    """

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    auth_method: str = "none"
    secret_hash: str | None = None
    host: str | None = None


class _Document(msgspec.Struct):
    client_id: str
    redirect_uris: list[str]
    client_name: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    token_endpoint_auth_method: str = "none"


def is_document(client_id: str) -> bool:
    return client_id.startswith("https://")


class ClientDocuments:
    """Reads clients' documents."""

    def __init__(self, egress: EgressClient, clock: Clock) -> None:
        self._egress = egress
        self._clock = clock
        self._kept: dict[str, tuple[float, Client]] = {}

    async def client(self, client_id: str) -> Client:
        """The client whose document is at `client_id`. Raises `ClientUnknown`."""
        kept = self._kept.get(client_id)
        if kept is not None and self._clock.monotonic() - kept[0] < KEPT_SECONDS:
            return kept[1]
        client = _client(client_id, await self._fetch(client_id))
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[client_id] = (self._clock.monotonic(), client)
        return client

    async def _fetch(self, client_id: str) -> bytes:
        parts = urlsplit(client_id)
        segments = parts.path.split("/")
        if len(client_id) > redirects.MAX_URI or parts.path in ("", "/") or ".." in segments or "." in segments:
            raise ClientUnknown("The client id is no address of a client's document.")
        try:
            answer = await self._egress.request(
                "GET",
                client_id,
                headers={"Accept": "application/json"},
                timeout=FETCH_SECONDS,
                max_bytes=MAX_BYTES,
            )
        except GatehouseError as error:
            raise ClientUnknown(f"The client's document could not be read: {error.message}") from None
        if answer.status != 200:
            raise ClientUnknown(f"The client's document could not be read: it was answered {answer.status}.")
        return answer.body


def _client(client_id: str, body: bytes) -> Client:
    try:
        document = msgspec.json.decode(body, type=_Document)
        redirects.check(document.redirect_uris)
    except (msgspec.MsgspecError, RecursionError):
        raise ClientUnknown("The client's document is not of the form that it must have.") from None
    except OAuthRefused as error:
        raise ClientUnknown(f"The client's document: {error.message}") from None
    if document.client_id != client_id:
        raise ClientUnknown("The client's document is another client's: its client_id must be its own address.")
    if document.token_endpoint_auth_method != "none":
        raise ClientUnknown("A client with a document has no secret: its token_endpoint_auth_method must be none.")
    host = urlsplit(client_id).hostname
    return Client(client_id, document.client_name[:200] or host or "", tuple(document.redirect_uris), host=host)
