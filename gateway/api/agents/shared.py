"""What the routes of the Agents API share: its words for errors, its rate limit and its paging.

Source: `mission-control.md`, Error Responses, Rate Limits, Pagination.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from gateway.api.shared.rate_limits import Limit

WORDS = {"AUTHENTICATION_REQUIRED": "UNAUTHORIZED", "INSUFFICIENT_PERMISSIONS": "FORBIDDEN"}
"""The document's own error codes, by those used elsewhere."""

REQUESTS = Limit("agents-api", 100, 60, "address")

Page = Annotated[int, Query(ge=1, le=1_000_000)]
PAGE_LIMIT = 20
