"""The parameters of lists that are given in pages: how many of them, and how many are left out before these."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

PageLimit = Annotated[int, Query(ge=1, le=1000)]
PageOffset = Annotated[int, Query(ge=0, le=1_000_000_000)]
