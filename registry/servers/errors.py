"""What can go wrong with servers."""

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound


class ServerNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("MCP server not found")


class ServerNameTaken(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"A server named {name!r} is already registered: choose another name or update that one.")


class ServerInvalid(Invalid):
    pass


class EnvironmentNotAllowed(Invalid):
    def __init__(self, environment: str, allowed: list[str]) -> None:
        super().__init__(
            f"The organisation does not allow the environment {environment!r}: use one of {', '.join(allowed)}, or "
            "change allowed_environments in its settings.",
            field="environment",
        )


class TooManyServers(Conflict):
    def __init__(self, most: int) -> None:
        super().__init__(
            f"The organisation has {most} servers, as many as max_servers in its settings allows: remove one, or "
            "raise it."
        )


class StdioNeedsOperator(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "Registering a command runs a program on the gateway's machine. It needs the permission gateway:operate "
            "and proof of access to the machine: send the content of operator.token in the header "
            "X-Gatehouse-Operator (`gatehouse servers add` does), or set GATEHOUSE_STDIO_API=on."
        )


class PublicSlugTaken(Conflict):
    def __init__(self, slug: str) -> None:
        super().__init__(
            f"Another organisation has a public server at /servers/{slug}/mcp: a public address names no organisation, "
            "so there can be only one. Register this server under another name to make it public."
        )


class PublicNeedsOperator(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "Making a server public, or changing where a public one is and how it is reached, needs the permission "
            "gateway:operate."
        )
