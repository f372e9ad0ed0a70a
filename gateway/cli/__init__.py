"""The command `gatehouse`: `serve` runs a gateway, everything else talks to a running one.

Client commands use the gateway's own doors (REST and MCP), never its database. What a run does not need is not loaded:
`serve` no HTTP client and no table drawing, a client command neither the gateway nor its settings.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from gateway.cli.access import access
from gateway.cli.accounts import accounts, logins
from gateway.cli.approvals import approvals
from gateway.cli.audit import audit
from gateway.cli.budgets import budget
from gateway.cli.doctor import doctor
from gateway.cli.emergency import emergency
from gateway.cli.errors import CommandFailed
from gateway.cli.health import channels, health
from gateway.cli.import_servers import import_servers
from gateway.cli.jobs import jobs
from gateway.cli.keys import keys
from gateway.cli.openapi import import_openapi
from gateway.cli.output import note
from gateway.cli.pins import pins
from gateway.cli.rpc import own_version
from gateway.cli.serve import serve
from gateway.cli.servers import servers
from gateway.cli.sets import sets
from gateway.cli.sign_ins import grants, sessions
from gateway.cli.stdio import stdio
from gateway.cli.teams import teams
from gateway.cli.tools import call, tools
from gateway.cli.usage import usage
from gateway.cli.users import organizations, users
from gateway.cli.why import why
from gateway.cli.workspaces import workspaces
from registry.core.errors import GatehouseError

__all__ = ["main"]

# Without markup and pretty tracebacks typer does not load rich, which `serve` would pay for.
app = typer.Typer(
    name="gatehouse",
    help="One front door for AI agents: an MCP-native gateway.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(serve)
servers.command("import-openapi")(import_openapi)
app.add_typer(servers, name="servers")
app.add_typer(sets, name="sets")
app.add_typer(keys, name="keys")
app.add_typer(tools, name="tools")
app.add_typer(usage, name="usage")
app.add_typer(teams, name="teams")
app.add_typer(access, name="access")
app.add_typer(budget, name="budget")
app.add_typer(emergency, name="emergency")
app.add_typer(pins, name="pins")
app.add_typer(approvals, name="approvals")
app.add_typer(audit, name="audit")
app.add_typer(workspaces, name="workspaces")
app.add_typer(jobs, name="jobs")
app.add_typer(health, name="health")
app.add_typer(channels, name="channels")
app.add_typer(users, name="users")
app.add_typer(organizations, name="organizations")
app.add_typer(sessions, name="sessions")
app.add_typer(grants, name="grants")
app.add_typer(logins, name="logins")
app.add_typer(accounts, name="accounts")
app.command("import")(import_servers)
app.command()(call)
app.command()(why)
app.command()(doctor)
app.command()(stdio)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(own_version())
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code of `gateway.cli.errors`."""
    try:
        code = app(standalone_mode=False, prog_name="gatehouse")
    except TyperException as error:
        context = getattr(error, "ctx", None)
        asked = context.command_path if context is not None else "gatehouse"
        note(f"gatehouse: {error.format_message()} (see {asked} --help)")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except GatehouseError as error:
        note(f"gatehouse: {error.message}")
        sys.exit(error.exit_code if isinstance(error, CommandFailed) else CommandFailed.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
