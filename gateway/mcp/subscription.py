"""The words of `subscriptions/listen`, and the gateway's own subscriptions at modern servers.

Source: specification 2026-07-28, basic/patterns/subscriptions; SEP-2663 for tasks. What clients subscribe to is
`gateway.mcp.notices`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.mcp import protocol, translate
from gateway.mcp.envelope import encode

if TYPE_CHECKING:
    from gateway.mcp.envelope import Params

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
TASK_CHANGED: Final = "notifications/tasks"
LIST_CHANGED: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}


def subscribing(resources: frozenset[str], tasks: frozenset[str]) -> Params:
    """The parameters of a subscription to a server's lists and these resources, or to these tasks."""
    wanted: dict[str, object] = dict.fromkeys(LIST_CHANGED, True) if not tasks else {"taskIds": sorted(tasks)}
    if resources:
        wanted["resourceSubscriptions"] = sorted(resources)
    capabilities = {"extensions": {protocol.TASKS: msgspec.Raw(b"{}")}} if tasks else {}
    return translate.stamp({"notifications": msgspec.Raw(encode(wanted))}, encode(capabilities))
