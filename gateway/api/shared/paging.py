"""The parameters of lists that are given in pages: how many of them, and how many are left out before these."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

PageLimit = Annotated[int, Query(ge=1, le=1000)]
ShortPageLimit = Annotated[int, Query(ge=1, le=100)]
"""Of lists of which more than a hundred at once are too many."""
PageOffset = Annotated[int, Query(ge=0, le=1_000_000_000)]
