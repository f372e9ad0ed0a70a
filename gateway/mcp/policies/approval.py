"""Approval: a call that a rule holds waits for a person, and passes once when that person has agreed to it.

Whoever is at the caller's client is asked there, where the rule lets the caller answer and the client can ask; then
`Asked` is raised and `gateway.mcp.asking` puts the question. Else the call waits in the inbox and is refused until
somebody has decided. What decides and remembers is behind `Approvals`; `registry.approvals.desk` does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import Params, ProtocolError, decode_params, decode_text
from gateway.mcp.policies.budget import price
from gateway.mcp.upstream.local import SLUG
from registry.core.errors import GatehouseError, NotFound, Unavailable
from registry.core.security import SealBroken, Sealer
from registry.servers.names import prefixed

if TYPE_CHECKING:
    from gateway.mcp.policies.policy import Attempt
    from registry.approvals.rule import Rule
    from registry.approvals.standing import Standing
    from registry.identity.principal import Principal

KEY = "approval"
"""Of our question among a call's input requests."""
_EMPTY = msgspec.Raw(b"{}")
_encoder = msgspec.json.Encoder(order="sorted")
_decoder: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)


class Approvals(Protocol):
    def any_rule(self, org_id: str) -> bool:
        """Whether an organisation has rules; at once."""
        ...

    def rule_for(
        self, org_id: str, tool: str, *, destructive: bool, price_usd: float, arguments: Callable[[], Any]
    ) -> Rule | None:
        """The first rule that holds a call; at once."""
        ...

    async def seek(
        self, principal: Principal, server_id: str, tool: str, arguments: bytes, rule: Rule, *, continuing: bool
    ) -> Standing:
        """Use up an approval of this call, or find out how it stands. Raises `Unavailable`."""
        ...

    async def answer(self, principal: Principal, approval_id: str, *, approve: bool) -> None:
        """Take the answer of the person at the client. Raises `GatehouseError` where it comes too late."""
        ...


class Asked(ProtocolError):
    """The person at the client is to be asked; where nobody puts the question, a refusal like any other.

    Args:
        arguments: canonical JSON, for people to see.
    """

    def __init__(self, standing: Standing, rule: Rule, tool: str, state: str, arguments: bytes) -> None:
        waiting = required(standing, rule, tool)
        super().__init__(waiting.code, waiting.message, data=waiting.data)
        self.approval_id = standing.approval_id
        self.expires_at = standing.expires_at
        self.rule = rule.name
        self.tool = tool
        self.state = state
        self.arguments = arguments


class ApprovalPolicy:
    """Holds calls by rules.

    Args:
        sealer: seals which approval a modern client's answer is about, bound to its caller and tool.
    """

    def __init__(self, approvals: Approvals, sealer: Sealer) -> None:
        self._approvals = approvals
        self._sealer = sealer

    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        """Raises `Asked`, or `ProtocolError` with APPROVAL_REQUIRED."""
        if attempt.method != "tools/call" or not self._approvals.any_rule(attempt.principal.org_id):
            return None
        rule, entry = self.holding(attempt), attempt.entry
        if rule is None or entry is None:
            return None
        return self._judge(attempt, prefixed(attempt.server.slug, entry.name), rule)

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """An approval is used up when the call passes, however it ends."""

    def holding(self, attempt: Attempt) -> Rule | None:
        """The rule that holds a call of a tool, if one does. Those that decide about calls are never held."""
        entry = attempt.entry
        if entry is None or attempt.never_held:
            return None
        if attempt.server.slug == SLUG and entry.name in ("approvals_approve", "approvals_deny"):
            return None
        hints = entry.definition.hints
        return self._approvals.rule_for(
            attempt.principal.org_id,
            prefixed(attempt.server.slug, entry.name),
            destructive=hints.destructiveHint and not hints.readOnlyHint,
            price_usd=price(attempt.server, entry.name),
            arguments=lambda: _arguments(attempt.params),
        )

    async def _judge(self, attempt: Attempt, tool: str, rule: Rule) -> None:
        principal, arguments = attempt.principal, canonical(attempt.params)
        try:
            await self._take_answer(attempt, tool)
            standing = await self._approvals.seek(
                principal,
                attempt.server.id,
                tool,
                arguments,
                rule,
                # Its server asked for input; that the state is the server's own is checked when it is opened.
                continuing="requestState" in attempt.params,
            )
        except Unavailable as error:
            data = {"code": error.code, "server": attempt.server.slug}
            raise ProtocolError(protocol.NOT_SENT, error.message, data=data) from None
        if standing.status == "passes":
            # What was agreed to is what is sent: not another reading of the same text.
            attempt.params = {**attempt.params, "arguments": msgspec.Raw(arguments)}
        elif standing.status == "denied":
            raise _denied(standing, tool)
        elif rule.ask == "caller" and principal.place is None and _elicits(attempt.capabilities):
            state = self._sealer.seal(standing.approval_id.encode(), _place(attempt, tool))
            raise Asked(standing, rule, tool, state, arguments)
        else:
            raise required(standing, rule, tool)

    async def _take_answer(self, attempt: Attempt, tool: str) -> None:
        """Take a modern client's answer to our question out of its retry, if there is one."""
        raw = attempt.params.get("requestState")
        if raw is None:
            return
        try:
            approval_id = self._sealer.open(decode_text(raw), _place(attempt, tool)).decode()
        except (SealBroken, msgspec.DecodeError):
            return
        approve = agreed(attempt.params.get("inputResponses"))
        attempt.params = {
            name: value for name, value in attempt.params.items() if name not in ("requestState", "inputResponses")
        }
        if approve is not None:
            await self.take(attempt.principal, approval_id, approve)

    async def take(self, principal: Principal, approval_id: str, approve: bool) -> None:
        """Write down what the person at the client said. What came too late says nothing: the call is judged anew."""
        try:
            await self._approvals.answer(principal, approval_id, approve=approve)
        except Unavailable:
            raise
        except GatehouseError as error:
            if isinstance(error, NotFound):
                raise ProtocolError(protocol.INVALID_PARAMS, error.message) from None


def canonical(params: Params) -> bytes:
    """A call's arguments as the one JSON that everybody reads alike."""
    return _encoder.encode(_arguments(params))


def _arguments(params: Params) -> dict[str, Any]:
    try:
        return _decoder.decode(params.get("arguments", _EMPTY)) or {}
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError(protocol.INVALID_PARAMS, "params.arguments must be an object.") from None


def agreed(responses: msgspec.Raw | None) -> bool | None:
    """What a modern client answered to our question; `None` where it did not."""
    if responses is None:
        return None
    try:
        answer = decode_params(responses).get(KEY)
        return None if answer is None else said(answer)
    except (msgspec.DecodeError, RecursionError):
        return None


class _Content(msgspec.Struct):
    approve: bool = False


class _Elicited(msgspec.Struct):
    action: str = ""
    content: _Content | None = None


def said(answer: msgspec.Raw) -> bool | None:
    """Yes, no, or nothing, in the result of an elicitation."""
    try:
        given = msgspec.json.decode(answer, type=_Elicited)
    except (msgspec.DecodeError, RecursionError):
        return None
    if given.action == "accept":
        return given.content is not None and given.content.approve
    return False if given.action == "decline" else None


def required(standing: Standing, rule: Rule, tool: str) -> ProtocolError:
    return ProtocolError(
        protocol.APPROVAL_REQUIRED,
        f"{tool} with these arguments waits for a person, by the rule {rule.name!r}. Once somebody has said "
        f"`gatehouse approvals approve {standing.approval_id}`, make the same call again.",
        data={
            "code": "APPROVAL_REQUIRED",
            "approval_id": standing.approval_id,
            "rule": rule.name,
            "status": "waiting",
            "expires_at": standing.expires_at.isoformat(),
        },
    )


def _denied(standing: Standing, tool: str) -> ProtocolError:
    why = f": {standing.reason}" if standing.reason else ""
    return ProtocolError(
        protocol.APPROVAL_REQUIRED,
        f"{tool} with these arguments was denied by a person{why}. Do not try to get the same in another way.",
        data={
            "code": "APPROVAL_REQUIRED",
            "approval_id": standing.approval_id,
            "status": "denied",
            "expires_at": standing.expires_at.isoformat(),
        },
    )


class _Capabilities(msgspec.Struct):
    elicitation: dict[str, Any] | None = None


def _elicits(capabilities: bytes) -> bool:
    """Whether a client shows forms to a person."""
    try:
        found = msgspec.json.decode(capabilities, type=_Capabilities).elicitation
    except msgspec.DecodeError:
        return False
    return found is not None and (not found or "form" in found)


def _place(attempt: Attempt, tool: str) -> str:
    return f"{attempt.principal.subject}|{attempt.server.id}|{tool}"
