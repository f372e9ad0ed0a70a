"""Rules, and the inbox: what people do about calls that wait. What calls themselves do is `registry.approvals.desk`."""

from __future__ import annotations

from collections.abc import Sequence

from registry.approvals import queries
from registry.approvals.decision import decided
from registry.approvals.errors import ApprovalClosed, ApprovalNotFound, OwnApproval, RuleNotFound
from registry.approvals.events import RulesChanged
from registry.approvals.models import Approval, ApprovalRule
from registry.approvals.rule import Condition
from registry.approvals.views import ApprovalsView, ApprovalView, RuleDraft, Status, as_rule
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, new_id
from registry.core.security import Sealer
from registry.identity.principal import Principal

READ = "approvals:read"
DECIDE = "approvals:decide"
MANAGE = "approvals:manage"


class ApprovalService:
    def __init__(self, clock: Clock, audit: AuditService, sealer: Sealer) -> None:
        self._clock = clock
        self._audit = audit
        self._sealer = sealer

    # Rules

    async def rules(self, session: Session, principal: Principal) -> Sequence[ApprovalRule]:
        principal.require(READ)
        return await queries.rules(session, principal.org_id)

    async def create_rule(self, session: Session, principal: Principal, draft: RuleDraft) -> ApprovalRule:
        """Raises `RuleInvalid` for a condition that cannot be judged."""
        principal.require(MANAGE)
        fields = draft.model_dump()
        if draft.argument is not None:
            Condition(draft.argument.path, draft.argument.compare, draft.argument.value)
        made = ApprovalRule(id=new_id(), org_id=principal.org_id, created_at=self._clock.now(), **fields)
        session.add(made)
        await self._changed(session, principal, "approvals.rules.create", made)
        return made

    async def delete_rule(self, session: Session, principal: Principal, rule_id: str) -> ApprovalRule:
        """Calls that wait because of it go on waiting; new ones do not."""
        principal.require(MANAGE)
        found = await queries.find_rule(session, principal, rule_id)
        if found is None:
            raise RuleNotFound
        await session.delete(found)
        await self._changed(session, principal, "approvals.rules.delete", found)
        return found

    async def _changed(self, session: Session, principal: Principal, action: str, rule: ApprovalRule) -> None:
        detail = {name: getattr(rule, name) for name in RuleDraft.model_fields}
        await self._audit.record(session, principal, action, target=("approval_rule", rule.id), detail=detail)
        await session.flush()
        rules = tuple(map(as_rule, await queries.rules(session, principal.org_id)))
        emit(session, RulesChanged(principal.org_id, rules))

    # The inbox

    async def list(
        self,
        session: Session,
        principal: Principal,
        status: Status | None = "waiting",
        *,
        limit: int = 50,
        offset: int = 0,
    ) -> ApprovalsView:
        """Newest first; `None` is every status."""
        principal.require(READ)
        found, total = await queries.page(session, principal, status, self._clock.now(), limit, offset)
        return ApprovalsView(approvals=[self.view(row) for row in found], total=total, limit=limit, offset=offset)

    async def decide(
        self, session: Session, principal: Principal, approval_id: str, *, approve: bool, reason: str | None = None
    ) -> Approval:
        """Answer a call that waits, once. An approved call passes once, until the approval expires.

        Raises:
            ApprovalNotFound, ApprovalClosed
            OwnApproval: it is the caller's own.
        """
        principal.require(DECIDE)
        found = await queries.find(session, principal, approval_id)
        if found is None:
            raise ApprovalNotFound
        if found.subject == principal.subject:
            raise OwnApproval
        now = self._clock.now()
        if found.status != "waiting" or found.expires_at <= now:
            raise ApprovalClosed(found.status if found.status != "waiting" else "expired")
        await decided(session, self._clock, self._audit, principal, found, approve=approve, over="inbox", reason=reason)
        return found

    def view(self, row: Approval) -> ApprovalView:
        fields = {name: getattr(row, name) for name in ApprovalView.model_fields if name != "arguments"}
        if row.status in ("waiting", "approved") and row.expires_at <= self._clock.now():
            fields["status"] = "expired"
        return ApprovalView(**fields, arguments=self._sealer.open(row.sealed_arguments, row.id).decode())
