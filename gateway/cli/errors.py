"""How a command fails, and with which exit code: 1 the operation failed, 2 usage or settings, 3 the key, 4 unreachable.

`gateway.cli.main` prints the message as one line on stderr. What the gateway answers becomes one of these in
`gateway.cli.client`; nothing here knows HTTP.
"""

from __future__ import annotations

from typing import ClassVar

from registry.core.errors import GatehouseError


class CommandFailed(GatehouseError):
    """The operation was refused or went wrong."""

    code = "COMMAND_FAILED"
    exit_code: ClassVar[int] = 1


class UsageWrong(CommandFailed):
    """The command, a `GATEHOUSE_*` variable or a setting does not make sense as it was given."""

    code = "USAGE"
    exit_code = 2


class KeyRefused(CommandFailed):
    """No API key, one that is not valid, or one that may not do this."""

    code = "KEY_REFUSED"
    exit_code = 3


class GatewayUnreachable(CommandFailed):
    """No connection came about, so nothing was sent."""

    code = "GATEWAY_UNREACHABLE"
    exit_code = 4


class ConnectionLost(CommandFailed):
    """The exchange broke off; the gateway may have acted on the request."""

    code = "CONNECTION_LOST"
