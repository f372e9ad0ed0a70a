"""`gatehouse sets …`: curated sets of tools, over `/v1/sets`. What a set is made of in full comes from a JSON file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import run
from gateway.cli.data import list_in, object_in, objects_in, parsed
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, note, show, show_json, show_table

SETS = "/v1/sets"

sets = typer.Typer(no_args_is_help=True, help="Curate tools, resources and prompts under an address of their own.")

_Servers = Annotated[
    list[str] | None, typer.Option("--server", metavar="SLUG", help="A whole server; may be repeated.")
]
_Tools = Annotated[
    list[str] | None,
    typer.Option("--tool", metavar="SERVER/TOOL[=NAME]", help="One tool, under another name if given; repeatable."),
]
_File = Annotated[
    str | None,
    typer.Option("--file", metavar="PATH", help="The members as a JSON list, as in the API; - is stdin."),
]
_Name = Annotated[str | None, typer.Option(help="For people.")]
_Description = Annotated[str | None, typer.Option(help="Shown to clients as instructions.")]


@sets.command("create")
def create(
    slug: str,
    server: _Servers = None,
    tool: _Tools = None,
    file: _File = None,
    name: _Name = None,
    description: _Description = None,
    public: Annotated[bool, typer.Option("--public", help="Answer anybody, without a credential.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a set of whole servers, single tools, or what a file says."""
    members = _members(server, tool, file)
    if not members:
        raise UsageWrong("Say what is in the set: --server, --tool or --file.")
    body = {"slug": slug, "members": members, "public": public, **_given(name=name, description=description)}
    made = object_in(run(lambda client: client.rest("POST", SETS, body)))
    _tell(made, "Created", as_json)


@sets.command("update")
def update(
    slug: str,
    server: _Servers = None,
    tool: _Tools = None,
    file: _File = None,
    name: _Name = None,
    description: _Description = None,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Whether anybody is answered, without a credential.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a set; what it is made of is replaced as a whole."""
    members = _members(server, tool, file) or None
    body = _given(members=members, name=name, description=description, public=public)
    if not body:
        raise UsageWrong("Say what to change: see gatehouse sets update --help.")
    made = object_in(run(lambda client: client.rest("PUT", _path(slug), body)))
    _tell(made, "Changed", as_json)


@sets.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """List the sets."""
    found = run(lambda client: client.pages(SETS, "sets"))
    if as_json:
        show_json(found)
        return
    show_table(("slug", "name", "servers", "public", "address"), map(_row, found))


@sets.command("show")
def show_set(slug: str, as_json: AsJson = False) -> None:
    """Show what a set offers, and what is missing from it."""
    made = object_in(run(lambda client: client.rest("GET", _path(slug))))
    if as_json:
        show_json(made)
        return
    rows = [
        (kind, str(item.get("name")), str(item.get("server")), str(item.get("original")))
        for kind, field in (
            ("tool", "tools"),
            ("resource", "resources"),
            ("template", "resource_templates"),
            ("prompt", "prompts"),
        )
        for item in objects_in(made.get(field))
    ]
    show_table(("kind", "name", "server", "its own name"), rows)
    _note_missing(made)


@sets.command("delete")
def delete(slug: str, as_json: AsJson = False) -> None:
    """Delete a set; its servers stay as they are."""
    answer = run(lambda client: client.rest("DELETE", _path(slug)))
    if as_json:
        show_json(answer)
    else:
        show(f"Deleted set {slug}.")


def _members(servers: list[str] | None, tools: list[str] | None, file: str | None) -> list[Any]:
    if file is not None and (servers or tools):
        raise UsageWrong("--file says it all: it goes with neither --server nor --tool.")
    if file is not None:
        members = parsed(_read(file))
        if not isinstance(members, list):
            raise UsageWrong(f"{file} does not hold a JSON list of members.")
        return list_in(members)
    made: list[Any] = [{"server": slug} for slug in servers or ()]
    chosen: dict[str, list[dict[str, str]]] = {}
    for text in tools or ():
        server, slash, rest = text.partition("/")
        name, equals, new_name = rest.partition("=")
        if not (server and slash and name) or (equals and not new_name):
            raise UsageWrong(f"--tool takes SERVER/TOOL or SERVER/TOOL=NAME, not {text!r}.")
        chosen.setdefault(server, []).append({"name": name, "as": new_name} if equals else {"name": name})
    made += [{"server": slug, "tools": of, "resources": [], "prompts": []} for slug, of in chosen.items()]
    return made


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageWrong(f"{file} cannot be read: {error.strerror}.") from None


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _path(slug: str) -> str:
    return f"{SETS}/{quote(slug, safe='')}"


def _row(made: dict[str, Any]) -> list[str]:
    servers = " ".join(str(member.get("server")) for member in objects_in(made.get("members")))
    public = "yes" if made.get("public") else "no"
    return [str(made.get("slug")), str(made.get("name")), servers, public, str(made.get("path"))]


def _tell(made: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        show_json(made)
    else:
        show(f"{done} set {made.get('slug')} with {len(objects_in(made.get('tools')))} tools at {made.get('path')}.")
    _note_missing(made)


def _note_missing(made: dict[str, Any]) -> None:
    for item in objects_in(made.get("missing")):
        name = f" {item.get('name')}" if item.get("name") else ""
        note(f"Missing: {item.get('what')} {item.get('server')}{name}: {item.get('reason')}")
