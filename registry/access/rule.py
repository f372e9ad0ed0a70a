"""Access rules in force: plain values without SQL, compiled once per snapshot and principal for the data path.

Rules stand in an order. The first one that is about a caller and names a capability decides whether the caller may use
it; what no rule names is left to permissions alone. So `allow team data files__*` before `deny anyone files__*` keeps
`files` for one team, and `deny anyone *` behind some `allow` rules closes everything else.

Patterns see names as `server__name`, whole, also where callers see them shortened; a resource's URI is its name. The
gateway's own tools are not subject to rules: their operations have more doors than tools, and permissions hold at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from registry.identity.principal import Principal
from registry.servers.connection import Kind
from registry.servers.names import SEPARATOR, prefixed

Effect = Literal["allow", "deny"]
Who = Literal["anyone", "role", "team", "user", "key"]
What = Literal["any", "tool", "resource", "prompt"]

InSet = Callable[[str, Kind, str, str, bool], bool]
"""Whether a set (by slug) has a capability: kind, server's slug, name, and whether its templates count generously."""

MOST_KNOWN = 10_000
"""Callers whose rules are remembered."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One rule.

    Args:
        who_id: name of a role, id of a team, user or key; `None` for `anyone`.
        what: which kind of capability; templates are resources.
        pattern: `fnmatch` on `server__name`; `None` where the rule names a set.
        set_slug: what this set has, by whatever name and at whatever address.
    """

    id: str
    name: str
    effect: Effect
    who: Who
    who_id: str | None
    what: What = "any"
    pattern: str | None = None
    set_slug: str | None = None

    def __str__(self) -> str:
        whom = "anyone" if self.who_id is None else f"{self.who} {self.who_id}"
        which = f"set {self.set_slug}" if self.set_slug is not None else self.pattern
        kind = "" if self.what == "any" else f"{self.what} "
        return f"{self.name!r} ({self.effect} {whom}: {kind}{which})"

    def names(self, kind: Kind, server: str, name: str, in_set: InSet) -> bool:
        """Whether the rule is about a capability, by its server's slug and the server's own name for it."""
        if self.what not in ("any", "resource" if kind == "template" else kind):
            return False
        if self.set_slug is not None:
            # A URI that might be of a template is denied with it, and allowed only if it surely is.
            return in_set(self.set_slug, kind, server, name, self.effect == "deny")
        if self.pattern is None:
            return False
        if fnmatchcase(f"{server}{SEPARATOR}{name}", self.pattern):
            return True
        return fnmatchcase(prefixed(server, name), self.pattern)


@dataclass(frozen=True, slots=True)
class Access:
    """What the rules say to one caller.

    Args:
        key: the same for callers who are subject to the same rules of one book.
    """

    rules: tuple[AccessRule, ...] = ()
    key: tuple[int, ...] = ()

    def deciding(self, kind: Kind, server: str, name: str, in_set: InSet) -> AccessRule | None:
        """The first rule that names a capability; `None` where none does."""
        return next((rule for rule in self.rules if rule.names(kind, server, name, in_set)), None)

    def allows(self, kind: Kind, server: str, name: str, in_set: InSet) -> bool:
        if not self.rules:
            return True
        rule = self.deciding(kind, server, name, in_set)
        return rule is None or rule.effect == "allow"


UNRESTRICTED = Access()


class AccessBook:
    """One organisation's rules, in order, and who is in which team. Never changes: a new one takes its place.

    Args:
        memberships: pairs of a team's and a user's id.
    """

    def __init__(self, rules: Sequence[AccessRule] = (), memberships: Iterable[tuple[str, str]] = ()) -> None:
        self._rules = tuple(rules)
        self._teams: dict[str, set[str]] = {}
        for team_id, user_id in memberships:
            self._teams.setdefault(user_id, set()).add(team_id)
        self._known: dict[tuple[str, str | None, int | None], Access] = {}

    def access_of(self, principal: Principal) -> Access:
        """What the rules say to a caller; remembered, as every request asks."""
        if not self._rules:
            return UNRESTRICTED
        caller = (principal.role, principal.user_id, principal.key_id)
        found = self._known.get(caller)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            applying = [(place, rule) for place, rule in enumerate(self._rules) if self._about(rule, principal)]
            found = Access(tuple(rule for _, rule in applying), tuple(place for place, _ in applying))
            self._known[caller] = found
        return found

    def _about(self, rule: AccessRule, principal: Principal) -> bool:
        match rule.who:
            case "anyone":
                return True
            case "role":
                return principal.role == rule.who_id
            case "team":
                return principal.user_id is not None and rule.who_id in self._teams.get(principal.user_id, ())
            case "user":
                return principal.user_id is not None and principal.user_id == rule.who_id
            case "key":
                return principal.key_id is not None and str(principal.key_id) == rule.who_id
