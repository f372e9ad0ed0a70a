"""What can go wrong with workspaces."""

from __future__ import annotations

from registry.core.errors import Conflict, Forbidden, GatehouseError, Invalid, NotFound, Unavailable


class WorkspaceNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Workspace not found")


class CredentialNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Credential not found")


class WorkspaceForbidden(Forbidden):
    def __init__(self) -> None:
        super().__init__("Not authorized to access this resource")


class WorkspaceNameInvalid(GatehouseError):
    """Source: `octoprox.md`, Create Workspace and 400 Bad Request."""

    status = 400
    code = "VALIDATION_ERROR"
    title = "Bad Request"

    def __init__(self) -> None:
        super().__init__(
            "Invalid workspace name format: use 1 to 128 letters, digits, hyphens, dots and underscores, "
            "not dots alone and neither 'gatehouse' nor 'health'.",
            details={"field": "name"},
        )


class WorkspaceInvalid(Invalid):
    pass


class WorkspaceNameTaken(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"You have a workspace named {name!r} already: choose another name, or delete that one.")


class QuotaExceeded(GatehouseError):
    """The owner has as many workspaces as one user may."""

    status = 429
    code = "WORKSPACE_QUOTA_EXCEEDED"
    title = "Too Many Requests"

    def __init__(self, quota: int) -> None:
        super().__init__(
            f"A user may have {quota} workspaces (GATEHOUSE_WORKSPACES_PER_USER): delete one that is not needed.",
            details={"retry_after": 60, "quota": quota},
        )


class EngineMissing(Unavailable):
    """No container engine answers, or none is configured."""

    code = "ENGINE_UNAVAILABLE"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"Workspaces need a container engine, and none answers ({why.rstrip('.')}): start Docker on this machine, "
            "or point DOCKER_HOST at an engine; nothing else has to be changed.",
            details={"reason": why},
        )


class ImageNotBuilt(Unavailable):
    """The image of workspaces could not be built. The message ends with the build's last words."""

    code = "IMAGE_NOT_BUILT"


class WorkspaceNotRunning(Unavailable):
    """It does not run (yet). The message says why, and what to do."""

    code = "WORKSPACE_NOT_RUNNING"
