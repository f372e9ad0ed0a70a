"""Access rules: list, add and remove them, and what the data path needs to know of them.

What a rule means is `registry.access.rule`. One method per operation; REST, MCP tools and the command line call the
same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry.access import queries
from registry.access.errors import AccessRuleInvalid, AccessRuleNotFound
from registry.access.events import AccessRulesChanged
from registry.access.models import AccessRuleRecord
from registry.access.rule import AccessBook, AccessRule
from registry.access.views import AccessRuleDraft, as_rule
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, as_uuid, emit, new_id
from registry.identity.permissions import ROLES
from registry.identity.principal import Principal
from registry.servers.names import SEPARATOR
from registry.servers.service import RESERVED_SLUGS
from registry.teams import queries as teams

READ = "access:read"
MANAGE = "access:manage"
MOST_RULES = 1000
PUBLIC = "public"
"""The role of callers without a credential, at public addresses."""


class AccessService:
    """Operations on access rules. Every method of a caller checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def rules(self, session: Session, principal: Principal) -> Sequence[AccessRuleRecord]:
        """In the order in which they decide."""
        principal.require(READ)
        return await queries.rules(session, principal.org_id)

    async def create(
        self, session: Session, principal: Principal, draft: AccessRuleDraft, *, before: str | None = None
    ) -> AccessRuleRecord:
        """Add a rule.

        Args:
            before: id of the rule that it is put before; without one it becomes the last.

        Raises:
            AccessRuleInvalid: it is about nobody or nothing that exists, or there are too many.
            AccessRuleNotFound: there is no rule `before`.
        """
        principal.require(MANAGE)
        _check_what(draft)
        if draft.set is not None and not await queries.set_exists(session, principal, draft.set):
            raise AccessRuleInvalid(f"There is no set {draft.set!r}.", field="set")
        who_id = await self._who(session, principal, draft)
        await queries.lock_order(session, principal)
        rows = list(await queries.rules(session, principal.org_id))
        if len(rows) >= MOST_RULES:
            raise AccessRuleInvalid(f"There are {MOST_RULES} rules already: remove some, or use wider patterns.")
        place = (
            len(rows) if before is None else next((at for at, row in enumerate(rows) if row.id == as_uuid(before)), -1)
        )
        if place < 0:
            raise AccessRuleNotFound
        fields = draft.model_dump(exclude={"set", "who_id"})
        made = AccessRuleRecord(
            id=new_id(),
            org_id=principal.org_id,
            place=place + 1,
            who_id=who_id,
            set_slug=draft.set,
            created_at=self._clock.now(),
            **fields,
        )
        session.add(made)
        await self._changed(session, principal, "access.rules.create", made, [*rows[:place], made, *rows[place:]])
        return made

    async def remove(self, session: Session, principal: Principal, rule_id: str) -> AccessRuleRecord:
        """Raises `AccessRuleNotFound`."""
        principal.require(MANAGE)
        await queries.lock_order(session, principal)
        found = await queries.find(session, principal, rule_id)
        if found is None:
            raise AccessRuleNotFound
        rest = [row for row in await queries.rules(session, principal.org_id) if row.id != found.id]
        await session.delete(found)
        await self._changed(session, principal, "access.rules.delete", found, rest)
        return found

    async def books(self, session: Session, org_id: str | None = None) -> dict[str, AccessBook]:
        """What the data path compiles its snapshot with, by organisation; one without rules is left out."""
        rules: dict[str, list[AccessRule]] = {}
        for row in await queries.rules(session, org_id):
            rules.setdefault(row.org_id, []).append(as_rule(row))
        if not rules:
            return {}
        members: dict[str, list[tuple[str, str]]] = {}
        for org, team_id, user_id in await teams.memberships(session, org_id):
            members.setdefault(org, []).append((team_id, user_id))
        return {org: AccessBook(made, members.get(org, ())) for org, made in rules.items()}

    async def _who(self, session: Session, principal: Principal, draft: AccessRuleDraft) -> str | None:
        """Whom a rule is about, as the data path knows them. Raises `AccessRuleInvalid`."""
        given = draft.who_id
        if draft.who == "anyone":
            if given is not None:
                raise AccessRuleInvalid("A rule about anyone names nobody: leave who_id out.", field="who_id")
            return None
        known = None
        match draft.who:
            case "role":
                known = given if given in ROLES or given == PUBLIC else None
            case "team":
                team = await teams.find(session, principal, given or "")
                known = team.id if team is not None else None
            case "user":
                known = as_uuid(given or "") if await queries.user_exists(session, principal, given or "") else None
            case "key":
                number = int(given) if given and given.isascii() and given.isdigit() and len(given) < 10 else 0
                known = str(number) if await queries.key_exists(session, principal, number) else None
        if known is None:
            hint = f": use one of {', '.join((*ROLES, PUBLIC))}" if draft.who == "role" else ""
            raise AccessRuleInvalid(f"There is no {draft.who} {given!r}{hint}.", field="who_id")
        return known

    async def _changed(
        self,
        session: Session,
        principal: Principal,
        action: str,
        rule: AccessRuleRecord,
        ordered: Sequence[AccessRuleRecord],
    ) -> None:
        for place, row in enumerate(ordered, start=1):
            row.place = place
        await session.flush()
        emit(session, AccessRulesChanged(principal.org_id, rule.id))
        detail = {"rule": str(as_rule(rule)), "place": rule.place}
        await self._audit.record(session, principal, action, target=("access_rule", rule.id), detail=detail)


def _check_what(draft: AccessRuleDraft) -> None:
    if (draft.pattern is None) == (draft.set is None):
        raise AccessRuleInvalid("A rule names either a pattern or a set.", field="pattern")
    slug = (draft.pattern or "").partition(SEPARATOR)[0]
    if slug in RESERVED_SLUGS:
        raise AccessRuleInvalid(
            f"Rules are about what servers offer. Who may use tools of {slug} is said by permissions, which hold at "
            "every door: give a key or a role fewer of them.",
            field="pattern",
        )
