"""`GET /api/v1/health`, which the Workspaces and the Operations API both have: one body with the keys of both.

Sources: `octoprox.md`, Health Check; `opssight.md`, System Health. The numbers of the machine are the kernel's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Front, public
from registry.core.clock import Clock
from registry.health.service import HealthService
from registry.workspaces.engine import ContainerEngine, EngineHealth
from registry.workspaces.service import WorkspaceService

HEALTH = Limit("api-health", 200, 60, "address")
_MEMINFO = Path("/proc/meminfo")


class DatabaseHealth(BaseModel):
    status: Literal["healthy", "unhealthy"]
    response_time_ms: float


class Components(BaseModel):
    database: DatabaseHealth
    docker: EngineHealth


class Services(BaseModel):
    database: DatabaseHealth


class Counts(BaseModel):
    """Workspaces of the whole gateway; `active` are to run."""

    total: int
    active: int


class System(BaseModel):
    """Of the machine, in percent; `None` where it does not say."""

    cpu_usage: float | None
    memory_usage: float | None
    disk_usage: float
    uptime_seconds: int


class HealthAnswer(BaseModel):
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    version: str
    components: Components
    services: Services
    workspaces: Counts
    system: System


def router(
    front: Front,
    health: HealthService,
    engine: ContainerEngine,
    workspaces: WorkspaceService,
    clock: Clock,
    data_dir: Path,
) -> APIRouter:
    """The route.

    Args:
        data_dir: whose disk is told of.
    """
    api = front.router(tags=["Health"], limit=HEALTH)
    since = clock.monotonic()

    @api.get("/api/v1/health")
    @public
    async def get_health(response: Response) -> HealthAnswer:
        began = time.perf_counter()
        checked = await health.check()
        alive = checked.checks["database"] == "healthy"
        database = DatabaseHealth(
            status="healthy" if alive else "unhealthy", response_time_ms=round((time.perf_counter() - began) * 1000, 2)
        )
        docker = await engine.health()
        total = active = 0
        if alive:
            async with front.database.reading() as session:
                total, active = await workspaces.counts(session)
        else:
            response.status_code = 503
        return HealthAnswer(
            status="unhealthy" if not alive else "healthy" if docker.status == "healthy" else "degraded",
            timestamp=clock.now(),
            version=checked.version,
            components=Components(database=database, docker=docker),
            services=Services(database=database),
            workspaces=Counts(total=total, active=active),
            system=await asyncio.to_thread(_system, data_dir, int(clock.monotonic() - since)),
        )

    return api


def _system(data_dir: Path, uptime: int) -> System:
    disk = shutil.disk_usage(data_dir)
    load = os.getloadavg()[0] / (os.cpu_count() or 1) * 100
    return System(
        cpu_usage=round(min(100.0, load), 1),
        memory_usage=_memory_usage(),
        disk_usage=round(disk.used / disk.total * 100, 1),
        uptime_seconds=uptime,
    )


def _memory_usage() -> float | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return round((1 - sizes["MemAvailable"] / sizes["MemTotal"]) * 100, 1)
