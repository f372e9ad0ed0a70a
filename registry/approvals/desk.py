"""What a call that a rule holds finds out: may it pass, must it wait, or was it denied.

Each question is a transaction of its own, for the data path has none. Rules are judged from memory, so that a call no
rule is about costs no transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from registry.approvals import queries
from registry.approvals.decision import decided
from registry.approvals.errors import ApprovalClosed, ApprovalNotFound
from registry.approvals.events import ApprovalAsked
from registry.approvals.models import Approval
from registry.approvals.rule import Rule
from registry.approvals.rulebook import Rulebook
from registry.approvals.standing import Standing
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Database, Session, emit, new_id
from registry.core.security import Sealer
from registry.identity.principal import Principal

SHOWN = 64 * 1024
"""Bytes of the arguments that are kept for people to see."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call that a rule holds."""

    server_id: str
    tool: str
    arguments: bytes
    digest: str

    def binding(self, principal: Principal) -> str:
        """The same for the same caller, tool and arguments only."""
        parts = (principal.org_id, principal.subject, self.server_id, self.tool, self.digest)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class ApprovalDesk:
    def __init__(
        self, database: Database, clock: Clock, audit: AuditService, sealer: Sealer, rulebook: Rulebook
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._sealer = sealer
        self._rulebook = rulebook

    def rule_for(
        self, org_id: str, tool: str, *, destructive: bool, price_usd: float, arguments: Callable[[], Any]
    ) -> Rule | None:
        """The first rule that holds a call; at once, from memory."""
        for rule in self._rulebook.of(org_id):
            if rule.matches(tool, destructive=destructive, price_usd=price_usd, arguments=arguments):
                return rule
        return None

    def any_rule(self, org_id: str) -> bool:
        """Whether there is a rule at all."""
        return bool(self._rulebook.of(org_id))

    async def seek(
        self, principal: Principal, server_id: str, tool: str, arguments: bytes, rule: Rule, *, continuing: bool
    ) -> Standing:
        """Use up an approval of this call, or find out how it stands; asks where nobody has been asked.

        Args:
            tool: its name on `/mcp`.
            arguments: canonical JSON, which is what the answer is bound to.
            continuing: the call goes on after its server asked for input, so the approval it has used serves it still.
        """
        asked = _Asked(server_id, tool, arguments, hashlib.sha256(arguments).hexdigest())
        binding = asked.binding(principal)
        now = self._clock.now()
        async with self._database.transaction() as session:
            await queries.expire(session, binding, now)
            used = await queries.use(session, binding, now)
            if used is not None:
                detail = {"tool": tool, "digest": asked.digest}
                await self._audit.record(session, principal, "approvals.use", target=("approval", used), detail=detail)
                return Standing("passes", used, now)
            before = await queries.latest(session, binding, "used", now) if continuing else None
            if before is not None:
                return Standing("passes", before.id, before.expires_at)
            denied = await queries.latest(session, binding, "denied", now)
            if denied is not None:
                return Standing("denied", denied.id, denied.expires_at, denied.reason)
            waiting = await self._ask(session, principal, asked, rule)
            return Standing("waiting", waiting.id, waiting.expires_at)

    async def answer(self, principal: Principal, approval_id: str, *, approve: bool) -> None:
        """Take the answer of the person at the caller's client.

        Raises:
            ApprovalNotFound: it is not this caller's, or not the caller's to answer.
            ApprovalClosed: it was answered before, or has expired.
        """
        async with self._database.transaction() as session:
            found = await queries.find(session, principal, approval_id)
            if found is None or found.subject != principal.subject or found.ask != "caller":
                raise ApprovalNotFound
            if found.status != "waiting" or found.expires_at <= self._clock.now():
                raise ApprovalClosed(found.status if found.status != "waiting" else "expired")
            await decided(session, self._clock, self._audit, principal, found, approve=approve, over="elicitation")

    async def _ask(self, session: Session, principal: Principal, asked: _Asked, rule: Rule) -> Approval:
        now, identity = self._clock.now(), new_id()
        fields: dict[str, object] = {
            "id": identity,
            "org_id": principal.org_id,
            "binding": asked.binding(principal),
            "status": "waiting",
            "rule_id": rule.id,
            "rule": rule.name,
            "ask": rule.ask,
            "subject": principal.subject,
            "user_id": principal.user_id,
            "key_id": principal.key_id,
            "server_id": asked.server_id,
            "tool": asked.tool,
            "digest": asked.digest,
            "sealed_arguments": self._sealer.seal(_shown(asked.arguments), identity),
            "arguments_bytes": len(asked.arguments),
            "expires_seconds": rule.expires_seconds,
            "asked_at": now,
            "expires_at": now + timedelta(seconds=rule.expires_seconds),
        }
        found = await queries.open_one(session, fields)
        if found.id == identity:
            detail = {"tool": asked.tool, "rule": rule.name, "digest": asked.digest}
            await self._audit.record(
                session, principal, "approvals.ask", target=("approval", identity), outcome="refused", detail=detail
            )
            emit(session, ApprovalAsked(principal.org_id, identity, asked.tool, principal.subject))
        return found


def _shown(arguments: bytes) -> bytes:
    return arguments[:SHOWN].decode(errors="ignore").encode()
