"""What the routes of the Workspaces API share: its envelope, its paging and its rate limits.

Source: `octoprox.md`, Common Response Format and Rate Limiting.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Front

GENERAL = Limit("workspaces-api", 200, 60, "address")
AUTHENTICATION = Limit("workspaces-api-authentication", 60, 60, "address")
EXCEEDED = "Rate limit exceeded"

Page = Annotated[int, Query(ge=1, le=1_000_000)]
PerPage = Annotated[int, Query(ge=1, le=100)]
UserId = Annotated[str, Query(max_length=64)]
PER_PAGE = 20

T = TypeVar("T")


class Meta(BaseModel):
    page: int
    per_page: int
    total: int


class Wrapped(BaseModel, Generic[T]):
    """One thing."""

    data: T


class WrappedPage(BaseModel, Generic[T]):
    """One page of many."""

    data: T
    meta: Meta


def documents_router(front: Front, tag: str, limit: Limit = GENERAL) -> APIRouter:
    """A router for paths that `octoprox.md` alone owns."""
    return front.router(tags=[tag], limit=limit, plain_429=EXCEEDED)
