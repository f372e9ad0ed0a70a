"""Importing a REST service: its description becomes a server whose tools are the service's operations.

What is imported is stored like any server and reached by `gateway.mcp.upstream.openapi`. Asking such a server anew
shows whether it is there, and never changes its tools.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from registry.core.egress import Egress, EgressFailed, vet_url
from registry.core.errors import GatehouseError
from registry.identity.principal import Principal
from registry.openapi import description as reading
from registry.openapi.description import MAX_BYTES, Description
from registry.openapi.errors import DescriptionInvalid
from registry.openapi.tools import Choice, Made, make_tools
from registry.servers.connection import Connection, Offer, Offered
from registry.servers.service import Environment, Registration, ServerService

FETCH_SECONDS = 15.0
REDIRECTS = 3


class DescriptionUnreachable(GatehouseError):
    """The description could not be fetched."""

    status = 502
    code = "EGRESS_FAILED"
    title = "Bad Gateway"


@dataclass(frozen=True, slots=True)
class Import:
    """What a caller wants imported.

    Args:
        url: where the description is; or `document`, its text or its parsed JSON.
        base_url: where the service is; by default the description's first server.
        include, exclude: see `tools.Choice`.
        headers: sent with each call and kept secret; with the fetch of the description they are not.
    """

    name: str
    url: str | None = None
    document: str | dict[str, Any] | None = None
    base_url: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict[str, str])
    description: str | None = None
    environment: Environment = "development"
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that is ready to be registered."""

    registration: Registration
    connection: Connection
    offer: Offer


class OpenApiImport:
    """Makes servers of descriptions."""

    def __init__(self, servers: ServerService, egress: Egress) -> None:
        self._servers = servers
        self._egress = egress

    async def prepare(self, principal: Principal, wanted: Import) -> Prepared:
        """Read a description; no transaction may be open, for it may have to be fetched.

        Raises:
            Forbidden: the permission `mcp:servers:create` is missing.
            DescriptionInvalid, UrlInvalid, EgressRefused: the description or an address is not acceptable.
            DescriptionUnreachable: it could not be fetched.
        """
        principal.require("mcp:servers:create")
        found = await self._read(wanted)
        base_url = wanted.base_url or found.base_url(wanted.url)
        if base_url is None:
            raise DescriptionInvalid("The description does not say where the service is.", field="base_url")
        # Refused now rather than at every call; a name that does not resolve yet may do so later.
        with suppress(EgressFailed):
            await self._egress.resolve(vet_url(base_url))
        fixed = frozenset(name.lower() for name in wanted.headers)
        made = make_tools(found, Choice(wanted.include, wanted.exclude, fixed))
        registration = Registration(
            name=wanted.name,
            base_url=base_url.rstrip("/"),
            description=wanted.description or found.title or None,
            environment=wanted.environment,
            tags=wanted.tags,
            transport="openapi",
            headers=wanted.headers,
            operations=made.operations,
        )
        return Prepared(registration, self._servers.admit(principal, registration), _offer(found, made, base_url))

    async def _read(self, wanted: Import) -> Description:
        if (wanted.url is None) == (wanted.document is None):
            raise DescriptionInvalid("Give either url or document.", field="url")
        if isinstance(wanted.document, dict):
            return reading.of(wanted.document)
        if wanted.document is not None:
            return reading.read(wanted.document)
        assert wanted.url is not None
        try:
            answer = await self._egress.client.request(
                "GET", wanted.url, timeout=FETCH_SECONDS, max_bytes=MAX_BYTES, follow_redirects=REDIRECTS
            )
        except EgressFailed as error:
            raise DescriptionUnreachable(f"The description could not be fetched. {error.message}") from error
        if not answer.ok:
            raise DescriptionUnreachable(f"The description could not be fetched: HTTP {answer.status}.")
        return reading.read(answer.text())


def _offer(found: Description, made: Made, base_url: str) -> Offer:
    """What a look at the server would find; it is contacted at the first call."""
    return Offer(
        reachable=True,
        endpoint_url=base_url.rstrip("/"),
        transport="openapi",
        server_info={"name": found.title, "version": found.version},
        capabilities={"tools": {}},
        offered=tuple(Offered("tool", operation.tool, operation.definition) for operation in made.operations),
        checks={"connectivity": "unknown", "handshake": "unknown", "capabilities": "healthy"},
        warnings=made.warnings,
    )
