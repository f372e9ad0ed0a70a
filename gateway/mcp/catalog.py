"""The catalog: what every caller may use, compiled into an immutable snapshot that answers lists and finds targets.

The snapshot is made from stored offers and replaced whole; nothing here asks a server anything. A `View` is what one
grant sees at one address (`/mcp`, `/servers/{slug}/mcp`, `/sets/{slug}/mcp`); its lists are bytes, made once. Names
are DESIGN §5: `{server}__{name}` on `/mcp`, plain on a server's own address; resources keep their URI where it is
unique. Names in a set are `registry.sets.resolve`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gateway.mcp import protocol, translate
from gateway.mcp.definitions import Definition, read_definition
from gateway.mcp.envelope import ProtocolError, encode
from gateway.mcp.secrets import Secrets
from gateway.mcp.shaping import Shaping, shape
from gateway.mcp.uri_templates import UriTemplate
from registry.access.rule import AccessBook
from registry.identity.permissions import OTHERS, PUBLIC
from registry.identity.principal import Principal
from registry.servers.names import prefixed, prefixed_uri, split_uri
from registry.sets.resolve import resolve

if TYPE_CHECKING:
    from registry.access.rule import Access, AccessRule
    from registry.servers.connection import Connection, Held, Kind, ServerOffer
    from registry.sets.members import SetOffer

PAGE = 1000
_MODERN_TAIL = b',"resultType":"complete","ttlMs":%d,"cacheScope":"private","_meta":' + encode(
    {protocol.META_SERVER_INFO: msgspec.Raw(translate.SERVER_INFO)}
)
MAX_VIEWS = 512

LIST_KEYS: dict[str, Kind] = {
    "tools/list": "tool",
    "resources/list": "resource",
    "resources/templates/list": "template",
    "prompts/list": "prompt",
}
_RESULT_KEYS: dict[Kind, str] = {
    "tool": "tools",
    "resource": "resources",
    "template": "resourceTemplates",
    "prompt": "prompts",
}
_LIST_PERMISSION: dict[Kind, str] = {
    "tool": "mcp:tools:list",
    "resource": "mcp:resources:list",
    "template": "mcp:resources:list",
    "prompt": "mcp:prompts:list",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One capability at one address: the name callers see, and where it really lives.

    Args:
        exposed: the name or URI that callers use.
        name: the upstream's own.
        permission: needed beside the ones for its kind; set for the gateway's own tools.
        shaping: how a set changes it.
    """

    kind: Kind
    exposed: str
    name: str
    server: ServerEntry
    definition: Definition
    permission: str | None = None
    shaping: Shaping | None = None

    @property
    def shown(self) -> Definition:
        """The definition that callers see."""
        return self.definition if self.shaping is None else self.shaping.shown


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """A server in the snapshot."""

    connection: Connection
    title: str
    public: bool
    price_usd: float
    capabilities: dict[str, Any]
    instructions: str | None
    ttl_ms: int | None
    definitions: tuple[Definition, ...]
    prices: dict[str, float] = field(default_factory=dict[str, float])
    """Of tools that have one of their own, by the server's name for them."""
    held: Held = frozenset()
    owner: str | None = None
    """The user whose it is alone; others than admins do not see it, and nobody else has it on `/mcp`."""

    def open_to(self, principal: Principal) -> bool:
        return self.owner is None or self.owner == principal.user_id or principal.may(OTHERS)

    @property
    def slug(self) -> str:
        return self.connection.slug

    @property
    def id(self) -> str:
        return self.connection.server_id


@dataclass(frozen=True, slots=True)
class _Pages:
    """A list cut into pages. `first_names` finds the page of a cursor."""

    legacy: tuple[bytes, ...]
    modern: tuple[bytes, ...]
    last_names: tuple[str, ...]


@dataclass(slots=True)
class View:
    """What one grant sees at one address.

    Args:
        single: the one server, at a server's own address.
        may_use: whether key and access rules admit a capability: its kind, its server and the server's name for it.
        curated: the set, at a set's address.
    """

    entries: dict[Kind, dict[str, Entry]]
    servers: tuple[ServerEntry, ...]
    single: ServerEntry | None
    ttl_ms: int
    may_use: Callable[[Kind, str, str], bool]
    curated: SetOffer | None = None
    _pages: dict[Kind, _Pages] = field(default_factory=dict["Kind", _Pages])
    _fingerprints: dict[Kind, bytes] = field(default_factory=dict["Kind", bytes])
    _matchers: list[tuple[UriTemplate, Entry]] | None = None

    def find(self, kind: Kind, exposed: str) -> Entry | None:
        return self.entries[kind].get(exposed)

    def find_resource(self, uri: str) -> tuple[ServerEntry, str] | None:
        """The server of a resource and the URI it knows it by: listed, of a template, or the only one it can be."""
        entry = self.entries["resource"].get(uri)
        if entry is not None:
            return entry.server, entry.name
        found = self._find_unlisted(uri) if self.curated is None else self._find_in_set(uri, self.curated)
        # What is not listed was not filtered by listing either.
        return found if found is not None and self.may_use("resource", found[0].slug, found[1]) else None

    def _find_unlisted(self, uri: str) -> tuple[ServerEntry, str] | None:
        split = split_uri(uri)
        named = [server for server in self.servers if split is not None and server.slug == split[0]]
        if split is not None and named:
            return named[0], split[1]
        matched = {entry.server.id: entry for template, entry in self._template_matchers() if template.matches(uri)}
        if len(matched) == 1:
            return next(iter(matched.values())).server, uri
        serving = [server for server in self.servers if "resources" in server.capabilities]
        return (serving[0], uri) if not matched and len(serving) == 1 else None

    def _find_in_set(self, uri: str, curated: SetOffer) -> tuple[ServerEntry, str] | None:
        """A set shows nothing but what is in it: an unlisted resource must be of one of its templates."""
        split = split_uri(uri)
        if split is not None and not any(member.server == split[0] for member in curated.members):
            split = None
        matched = {
            entry.server.id: entry
            for template, entry in self._template_matchers()
            if (split is None or _slug_of(entry.exposed) == split[0]) and template.matches(uri)
        }
        if len(matched) != 1:
            return None
        entry = next(iter(matched.values()))
        return entry.server, uri if split is None or entry.exposed == entry.name else split[1]

    def fingerprint(self, kind: Kind) -> bytes:
        """Changes exactly when the list changes."""
        found = self._fingerprints.get(kind)
        if found is None:
            found = self._fingerprints[kind] = hashlib.sha256(b"".join(self._paged(kind).modern)).digest()
        return found

    def _paged(self, kind: Kind) -> _Pages:
        pages = self._pages.get(kind)
        if pages is None:
            pages = self._pages[kind] = _paginate(kind, list(self.entries[kind].values()), self.ttl_ms, self._ui_of)
        return pages

    def _ui_of(self, entry: Entry) -> str | None:
        """The URI here of the resource that shows a tool's results, where it is not the server's own."""
        own = entry.shown.ui
        if own is None or self.single is not None:
            return None
        for listed in self.entries["resource"].values():
            if listed.name == own and listed.server is entry.server:
                return listed.exposed
        # Such a resource need not be listed to be read; a set shows nothing but what is in it.
        return None if self.curated is not None else prefixed_uri(entry.server.slug, own)

    def page(self, kind: Kind, cursor: str | None, *, modern: bool) -> bytes:
        """The JSON of a list result.

        Raises:
            ProtocolError: a cursor that no list gave out.
        """
        pages = self._paged(kind)
        made = pages.modern if modern else pages.legacy
        return made[0] if cursor is None else made[_page_after(pages.last_names, cursor)]

    def _template_matchers(self) -> list[tuple[UriTemplate, Entry]]:
        if self._matchers is None:
            strict = self.curated is not None
            self._matchers = [
                (UriTemplate(name, strict=strict), entry) for name, entry in self.entries["template"].items()
            ]
        return self._matchers


class OrgCatalog:
    """One organisation's servers and sets in the snapshot, and the views made of them so far."""

    def __init__(
        self,
        servers: Iterable[ServerEntry],
        ttl_seconds: int,
        sets: Iterable[SetOffer] = (),
        book: AccessBook | None = None,
    ) -> None:
        self.servers = {server.slug: server for server in sorted(servers, key=lambda server: server.slug)}
        self._owners = {server.owner for server in self.servers.values() if server.owner is not None}
        self._workspaces = {
            (server.owner, server.title): slug for slug, server in self.servers.items() if server.owner is not None
        }
        self._sets = {made.slug: made for made in sets}
        self._set_entries: dict[str, list[Entry]] = {}
        self._book = book or AccessBook()
        self._ttl_ms = ttl_seconds * 1000
        self._views: OrderedDict[tuple[str, str, tuple[int, ...], str], View] = OrderedDict()
        self._secrets: Secrets | None = None

    @property
    def secrets(self) -> Secrets:
        """The stored secrets of the servers."""
        if self._secrets is None:
            self._secrets = Secrets(server.connection for server in self.servers.values())
        return self._secrets

    def workspace(self, owner: str | None, name: str) -> str | None:
        """The slug of a user's workspace."""
        return self._workspaces.get((owner or "", name))

    def view(self, slug: str | None, principal: Principal, *, curated: bool = False) -> View | None:
        """What `principal` sees at `/mcp` (`slug` is `None`), or at the address of one server or, if `curated`, set.

        `None` where there is no such server or set.
        """
        place = place_of(slug, curated=curated)
        if principal.place is not None and principal.place != place:
            return None
        access = self._book.access_of(principal)
        # What somebody owns is theirs alone, so that they share no view with others of the same grant.
        who = principal.user_id if principal.user_id in self._owners else None
        key = (place, principal.grant, access.key, who or "")
        view = self._views.get(key)
        if view is None:
            if slug is not None and slug not in (self._sets if curated else self.servers):
                return None
            if slug is not None and not curated and not self.servers[slug].open_to(principal):
                return None
            may_use = self._judge(principal, access)
            view = self._views[key] = (
                self._compile_set(self._sets[slug], principal, may_use)
                if curated and slug
                else self._compile(slug, principal, may_use)
            )
            if len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
        return view

    def deciding(self, principal: Principal, kind: Kind, server: str, name: str) -> AccessRule | None:
        """The access rule that decides whether `principal` may use a capability; `None` where none does."""
        return self._book.access_of(principal).deciding(kind, server, name, self._in_set)

    def _judge(self, principal: Principal, access: Access) -> Callable[[Kind, str, str], bool]:
        def may_use(kind: Kind, server: str, name: str) -> bool:
            return principal.may_use(prefixed(server, name)) and access.allows(kind, server, name, self._in_set)

        return may_use

    def _in_set(self, slug: str, kind: Kind, server: str, name: str, generously: bool) -> bool:
        """Whether a set has a capability; a URI also where one of the set's templates matches it."""
        entries = self._entries_of_set(slug)
        if any((entry.kind, entry.server.slug, entry.name) == (kind, server, name) for entry in entries):
            return True
        return kind == "resource" and any(
            entry.kind == "template"
            and entry.server.slug == server
            and UriTemplate(entry.name, strict=not generously).matches(name)
            for entry in entries
        )

    def _compile(self, slug: str | None, principal: Principal, may_use: Callable[[Kind, str, str], bool]) -> View:
        single = self.servers[slug] if slug is not None else None
        servers = (
            (single,)
            if single is not None
            else tuple(server for server in self.servers.values() if server.owner in (None, principal.user_id))
        )
        shared = _shared_uris(servers)
        entries: dict[Kind, dict[str, Entry]] = {"tool": {}, "resource": {}, "template": {}, "prompt": {}}
        for server in servers:
            for definition in server.definitions:
                if not _visible(principal, server, definition, may_use):
                    continue
                name = prefixed(server.slug, definition.name)
                if single is not None:
                    exposed = definition.name
                elif definition.kind in ("tool", "prompt"):
                    exposed = name
                else:
                    exposed = (
                        prefixed_uri(server.slug, definition.name) if definition.name in shared else definition.name
                    )
                # Two long names may be cut to one: the first in order keeps it, the other is never reached by it.
                entries[definition.kind].setdefault(
                    exposed, Entry(definition.kind, exposed, definition.name, server, definition, definition.permission)
                )
        return View(entries=entries, servers=servers, single=single, ttl_ms=self._ttl_of(servers), may_use=may_use)

    def _compile_set(self, made: SetOffer, principal: Principal, may_use: Callable[[Kind, str, str], bool]) -> View:
        entries: dict[Kind, dict[str, Entry]] = {"tool": {}, "resource": {}, "template": {}, "prompt": {}}
        servers: dict[str, ServerEntry] = {}
        for entry in self._entries_of_set(made.slug):
            # A key that may use some tools only may use those in a set, whatever they are called there.
            if _visible(principal, entry.server, entry.definition, may_use):
                entries[entry.kind][entry.exposed] = entry
                servers[entry.server.slug] = entry.server
        used = tuple(servers.values())
        return View(
            entries=entries,
            servers=used,
            single=None,
            ttl_ms=self._ttl_of(used),
            may_use=may_use,
            curated=made,
        )

    def _entries_of_set(self, slug: str) -> list[Entry]:
        found = self._set_entries.get(slug)
        if found is None:
            made = self._sets.get(slug)
            found = self._set_entries[slug] = self._entries_of(made) if made is not None else []
        return found

    def _entries_of(self, made: SetOffer) -> list[Entry]:
        """What a set offers, named before anybody's permissions: a name means the same to everybody."""
        offers: dict[str, dict[tuple[Kind, str], Definition]] = {
            slug: {(definition.kind, definition.name): definition for definition in server.definitions}
            for slug, server in self.servers.items()
            if server.owner is None
        }
        entries: list[Entry] = []
        for chosen in resolve(made.members, offers).chosen:
            definition = offers[chosen.server][chosen.kind, chosen.name]
            entries.append(
                Entry(
                    chosen.kind,
                    chosen.exposed,
                    chosen.name,
                    self.servers[chosen.server],
                    definition,
                    definition.permission,
                    shape(definition, chosen.choice),
                )
            )
        return entries

    def _ttl_of(self, servers: Iterable[ServerEntry]) -> int:
        return min([self._ttl_ms, *(server.ttl_ms for server in servers if server.ttl_ms)])


class Catalog:
    """The snapshot of all organisations. `replace` swaps in a new one; readers never see half of it.

    Args:
        own: the gateway's own tools, as one more server of every organisation.
        ttl_seconds: how long clients may keep a list.
    """

    def __init__(self, own: Callable[[str], ServerEntry], ttl_seconds: int) -> None:
        self._own = own
        self._ttl_seconds = ttl_seconds
        self._organisations: dict[str, OrgCatalog] = {}
        self._visitors: dict[str, Principal] = {}

    def replace(
        self,
        org_id: str,
        offers: Sequence[ServerOffer],
        sets: Sequence[SetOffer] = (),
        book: AccessBook | None = None,
    ) -> None:
        servers = [compile_server(offer) for offer in offers]
        self._organisations[org_id] = OrgCatalog([*servers, self._own(org_id)], self._ttl_seconds, sets, book)
        public = [place_of(server.slug) for server in servers if server.public]
        self._open_to_visitors(org_id, [*public, *(place_of(made.slug, curated=True) for made in sets if made.public)])

    def visitor(self, place: str) -> Principal | None:
        """Who a caller without a credential is at an address like `servers/notes`; `None` where it is not public."""
        return self._visitors.get(place)

    def _open_to_visitors(self, org_id: str, places: Iterable[str]) -> None:
        for place in [place for place, visitor in self._visitors.items() if visitor.org_id == org_id]:
            del self._visitors[place]
        for place in places:
            # The registry keeps public slugs unique over all organisations; should two meet, the first one stays.
            self._visitors.setdefault(place, Principal(org_id, None, "public", PUBLIC, place=place))

    def of(self, org_id: str) -> OrgCatalog:
        catalog = self._organisations.get(org_id)
        if catalog is None:
            catalog = self._organisations[org_id] = OrgCatalog([self._own(org_id)], self._ttl_seconds)
        return catalog

    def servers(self) -> list[ServerEntry]:
        """Every server, over all organisations."""
        return [server for catalog in self._organisations.values() for server in catalog.servers.values()]

    def connections(self) -> dict[str, Connection]:
        """Every server's connection by server id, over all organisations."""
        return {
            server.id: server.connection
            for catalog in self._organisations.values()
            for server in catalog.servers.values()
        }


def place_of(slug: str | None, *, curated: bool = False) -> str:
    """The name of an address for `Principal.place`; empty for `/mcp`, which is nobody's only one."""
    if slug is None:
        return ""
    return f"sets/{slug}" if curated else f"servers/{slug}"


def compile_server(offer: ServerOffer) -> ServerEntry:
    metadata = offer.server_metadata
    capabilities = metadata.get("capabilities")
    return ServerEntry(
        connection=offer.connection,
        title=offer.name,
        public=offer.public,
        price_usd=offer.price_usd or 0.0,
        capabilities=cast("dict[str, Any]", capabilities) if isinstance(capabilities, dict) else {},
        instructions=metadata.get("instructions"),
        ttl_ms=metadata.get("ttl_ms"),
        definitions=tuple(
            definition
            for item in offer.offered
            if (definition := read_definition(item.kind, item.name, item.definition)) is not None
        ),
        prices=offer.prices,
        held=offer.held,
        owner=offer.owner_user_id,
    )


def _visible(
    principal: Principal, server: ServerEntry, definition: Definition, may_use: Callable[[Kind, str, str], bool]
) -> bool:
    if not principal.may(_LIST_PERMISSION[definition.kind]):
        return False
    if definition.permission is None:
        return may_use(definition.kind, server.slug, definition.name)
    # The gateway's own: permissions say it all, and hold at every door.
    return principal.may(definition.permission) and principal.may_use(prefixed(server.slug, definition.name))


def _slug_of(uri: str) -> str | None:
    """What a URI begins with that may be a server's slug."""
    split = split_uri(uri)
    return None if split is None else split[0]


def _shared_uris(servers: Sequence[ServerEntry]) -> set[str]:
    """The URIs that need their server's prefix: those of several servers, and those that look as if they had one."""
    slugs = {server.slug for server in servers}
    seen: set[str] = set()
    shared: set[str] = set()
    for server in servers:
        for definition in server.definitions:
            if definition.kind in ("resource", "template"):
                disguised = _slug_of(definition.name) in slugs
                (shared if disguised or definition.name in seen else seen).add(definition.name)
    return shared


def _paginate(kind: Kind, entries: list[Entry], ttl_ms: int, ui_of: Callable[[Entry], str | None]) -> _Pages:
    key = _RESULT_KEYS[kind]
    legacy: list[bytes] = []
    modern: list[bytes] = []
    last_names: list[str] = []
    for start in range(0, max(len(entries), 1), PAGE):
        page = entries[start : start + PAGE]
        more = start + PAGE < len(entries)
        cursor = b',"nextCursor":' + encode(_cursor(page[-1].exposed)) if more else b""
        last_names.append(page[-1].exposed if page else "")
        for made, era in ((legacy, False), (modern, True)):
            items = b",".join(entry.shown.listed(entry.exposed, modern=era, ui=ui_of(entry)) for entry in page)
            tail = _MODERN_TAIL % ttl_ms if era else b""
            made.append(b'{"%b":[%b]%b%b}' % (key.encode(), items, cursor, tail))
    return _Pages(tuple(legacy), tuple(modern), tuple(last_names))


def _cursor(last_name: str) -> str:
    return base64.urlsafe_b64encode(last_name.encode()).decode()


def _page_after(last_names: Sequence[str], cursor: str) -> int:
    """The page after the one that ends with the cursor's name; lists keep their order, so small changes do no harm."""
    try:
        name = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        return last_names.index(name) + 1 if last_names[-1] != name else _no_page()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return _no_page()


def _no_page() -> int:
    raise ProtocolError(protocol.INVALID_PARAMS, "Unknown cursor: list again from the start, without a cursor.")
