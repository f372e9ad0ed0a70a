"""Why a call passes or not: the chain of policies, gone through for a tool and a principal without making the call.

The policies themselves are asked, so that what is told is what is done. Arguments are unknown here: what depends on
them is said to.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp.catalog import Entry
from gateway.mcp.definitions import Definition
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.policies.permission import PERMISSION
from gateway.mcp.policies.policy import Attempt
from mcp_tools.explanation import Explanation, Rule, Step
from registry.servers.names import prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.mcp.catalog import Catalog, ServerEntry
    from gateway.mcp.policies.approval import ApprovalPolicy
    from gateway.mcp.policies.policy import Policy
    from registry.identity.principal import Principal

LIST = "mcp:tools:list"
CALL = PERMISSION["tools/call"]


class _Refused(Exception):
    """A rule refuses."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """See `mcp_tools.explanation.Explains`.

    Args:
        stop, pinning, approval, budget: the policies of the chain that decide before the arguments are looked at.
        rates: says which rate limits there are for a server's slug and a tool's name.
    """

    catalog: Catalog
    stop: Policy
    pinning: Policy
    approval: ApprovalPolicy
    budget: Policy
    rates: Callable[[str, str], str | None]

    async def explain(self, principal: Principal, tool: str) -> Explanation:
        steps: list[Step] = []

        def step(rule: Rule, passes: bool | None, detail: str) -> None:
            steps.append(Step(rule=rule, passes=passes, detail=detail))
            if passes is False:
                raise _Refused

        with suppress(_Refused):
            await self._chain(principal, tool, step)
        refusing = steps[-1].rule if steps[-1].passes is False else None
        return Explanation(
            tool=tool, principal=principal.subject, allowed=refusing is None, decided_by=refusing, steps=steps
        )

    async def _chain(self, principal: Principal, tool: str, step: Callable[[Rule, bool | None, str], None]) -> None:
        found = self._find(principal, tool)
        if found is None:
            step("listed", False, "No active server of the organisation offers a tool of this name.")
            return
        server, definition, listed = found
        step("listed", True, f"{server.slug} offers it." if listed else f"{server.slug} offers it, and it is held.")
        needed = [name for name in (LIST, definition.permission, CALL) if name is not None]
        missing = [name for name in needed if not principal.may(name)]
        step("permission", not missing, f"{'Missing' if missing else 'Held'}: {', '.join(missing or needed)}.")
        patterns = ", ".join(principal.tools)
        admitted = principal.may_use(prefixed(server.slug, definition.name))
        step("key_tools", admitted, f"The key admits {patterns}." if patterns else "The key admits no tool.")
        # The gateway's own tools, which have a permission each, are not subject to access rules.
        org = self.catalog.of(principal.org_id)
        rule = org.deciding(principal, "tool", server.slug, definition.name) if definition.permission is None else None
        said = "No rule is about it." if rule is None else f"The rule {rule} decides."
        step("access_rule", rule is None or rule.effect == "allow", said)
        entry = Entry("tool", tool, definition.name, server, definition, definition.permission)
        attempt = Attempt(principal, "tools/call", tool, server, entry, {})
        await self._ask(self.stop, attempt, "emergency_stop", "Nothing is stopped that this belongs to.", step)
        await self._ask(self.pinning, attempt, "definition", "Its definition is approved.", step)
        limits = self.rates(server.slug, tool)
        step("rate_limit", True if limits is None else None, limits or "There is no limit.")
        holding = self.approval.holding(attempt)
        if holding is not None:
            step("approval", False, f"Waits for a person, by the rule {holding.name!r}.")
        step("approval", True, "No rule holds it, unless by its arguments.")
        await self._ask(self.budget, attempt, "budget", "Within every limit, or free of them.", step)

    async def _ask(
        self,
        policy: Policy,
        attempt: Attempt,
        rule: Rule,
        passed: str,
        step: Callable[[Rule, bool | None, str], None],
    ) -> None:
        """Let a policy judge, and take back what it did."""
        try:
            waiting: Awaitable[None] | None = policy.admit(attempt)
            if waiting is not None:
                await waiting
        except ProtocolError as error:
            step(rule, False, error.message)
            return
        policy.settle(attempt, "denied")
        step(rule, True, passed)

    def _find(self, principal: Principal, tool: str) -> tuple[ServerEntry, Definition, bool] | None:
        for server in self.catalog.of(principal.org_id).servers.values():
            if not server.open_to(principal):
                # Somebody else's workspace: not even its tools' names are told.
                continue
            for definition in server.definitions:
                if definition.kind == "tool" and prefixed(server.slug, definition.name) == tool:
                    return server, definition, True
            for kind, name in server.held:
                if kind == "tool" and prefixed(server.slug, name) == tool:
                    return server, Definition("tool", name, dict[str, msgspec.Raw]()), False
        return None
