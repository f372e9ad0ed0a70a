"""A decision on one call that waits, whoever makes it and wherever it is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from registry.approvals.events import ApprovalDecided
from registry.approvals.models import Approval
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.identity.principal import Principal


async def decided(
    session: Session,
    clock: Clock,
    audit: AuditService,
    principal: Principal,
    approval: Approval,
    *,
    approve: bool,
    over: Literal["inbox", "elicitation"],
    reason: str | None = None,
) -> None:
    """Write a decision down, tell and audit it. The answer holds as long as the question would have waited."""
    now = clock.now()
    approval.status = "approved" if approve else "denied"
    approval.decided_at, approval.decided_by, approval.decided_over = now, principal.subject, over
    approval.reason = reason
    approval.expires_at = now + timedelta(seconds=approval.expires_seconds)
    action = "approvals.approve" if approve else "approvals.deny"
    detail = {"tool": approval.tool, "caller": approval.subject, "digest": approval.digest, "over": over}
    detail |= {"reason": reason}
    await audit.record(session, principal, action, target=("approval", approval.id), detail=detail)
    emit(session, ApprovalDecided(approval.org_id, approval.id, approve, principal.subject))
