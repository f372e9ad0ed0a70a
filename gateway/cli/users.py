"""`gatehouse users …` and `gatehouse organizations …`: who belongs to an organisation, and what it allows."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, one_line, show, show_json, show_table

USERS = "/api/v1/users"
ORGANIZATIONS = "/v1/organizations"
PER_PAGE = 100

users = typer.Typer(no_args_is_help=True, help="See and change the users of the organisation.")
organizations = typer.Typer(no_args_is_help=True, help="See organisations, and say what they allow.")

User = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse users list` shows it.")]
Organization = Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse organizations list` shows it.")]


@users.command("list")
def list_users(
    role: Annotated[str | None, typer.Option(help="Only those with this role.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the email or the name.")] = None,
    page: Annotated[int, typer.Option(min=1, help=f"Of {PER_PAGE} each.")] = 1,
    as_json: AsJson = False,
) -> None:
    """List users."""
    given = {"role": role, "search": search, "page": page, "per_page": PER_PAGE}
    query = {name: value for name, value in given.items() if value is not None}
    found = object_in(run(lambda client: client.rest("GET", USERS, query=query)))
    if as_json:
        show_json(found)
        return
    fields = ("id", "email", "full_name", "role", "is_active")
    show_table(fields, ([str(row.get(name)) for name in fields] for row in objects_in(found.get("users"))))


@users.command("show")
def show_user(user: User, as_json: AsJson = False) -> None:
    """Show a user."""
    _show(run(lambda client: client.rest("GET", f"{USERS}/{quote(user, safe='')}")), as_json=as_json)


@users.command("update")
def update_user(
    user: User,
    role: Annotated[str | None, typer.Option(help="admin, manager, user, viewer or agent.")] = None,
    name: Annotated[str | None, typer.Option()] = None,
    email: Annotated[str | None, typer.Option()] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a user's role or profile."""
    body = _given(role=role, full_name=name, email=email, is_active=active)
    _show(run(lambda client: client.rest("PUT", f"{USERS}/{quote(user, safe='')}", body)), as_json=as_json)


@users.command("deactivate")
def deactivate_user(user: User) -> None:
    """Take away a user's access at once, for all their credentials."""
    run(lambda client: client.rest("DELETE", f"{USERS}/{quote(user, safe='')}"))
    show("Deactivated.")


@organizations.command("list")
def list_organizations(as_json: AsJson = False) -> None:
    """List the organisations that you can see."""
    found = object_in(run(lambda client: client.rest("GET", ORGANIZATIONS)))
    if as_json:
        show_json(found)
        return
    fields = ("id", "name", "description", "settings")
    show_table(fields, ([str(row.get(name)) for name in fields] for row in objects_in(found.get("organizations"))))


@organizations.command("show")
def show_organization(organization: Organization, as_json: AsJson = False) -> None:
    """Show an organisation with its users."""
    _show(run(lambda client: client.rest("GET", f"{ORGANIZATIONS}/{quote(organization, safe='')}")), as_json=as_json)


@organizations.command("update")
def update_organization(
    organization: Organization,
    name: Annotated[str | None, typer.Option()] = None,
    description: Annotated[str | None, typer.Option()] = None,
    max_servers: Annotated[int | None, typer.Option(min=0, help="Servers that it may register.")] = None,
    environment: Annotated[
        list[str] | None, typer.Option(help="In which servers may be registered; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change an organisation's name and what it allows."""
    settings = {"max_servers": max_servers, "allowed_environments": environment or None}
    limits = {field: value for field, value in settings.items() if value is not None}
    body = _given(name=name, description=description, settings=limits or None)
    path = f"{ORGANIZATIONS}/{quote(organization, safe='')}"
    _show(run(lambda client: client.rest("PUT", path, body)), as_json=as_json)


def _given(**values: Any) -> dict[str, Any]:
    found = {name: value for name, value in values.items() if value is not None}
    if not found:
        raise UsageWrong("Say what is to change.")
    return found


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    for name, value in object_in(answer).items():
        if name != "data":
            show(one_line(f"{name}: {value}"))
