"""`gatehouse access …`: rules that say who may use which tools, resources and prompts, over `/v1/access/rules`."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import UsageWrong
from gateway.cli.output import AsJson, one_line, show, show_json, show_table
from gateway.cli.teams import team_id

RULES = "/v1/access/rules"

access = typer.Typer(no_args_is_help=True, help="Say who may use which tools, resources and prompts.")

_Pattern = Annotated[
    str | None, typer.Argument(help="Of names on /mcp, like 'files__*'; not with --set.", show_default=False)
]
_Set = Annotated[str | None, typer.Option("--set", metavar="SLUG", help="All that a set has, instead of a pattern.")]
_Role = Annotated[str | None, typer.Option(help="Whom it is about: a role.")]
_Team = Annotated[str | None, typer.Option(help="Or a team, by name or id.")]
_User = Annotated[str | None, typer.Option(metavar="ID", help="Or a user.")]
_Key = Annotated[int | None, typer.Option(metavar="ID", help="Or an API key. None of these is anyone.")]
_Only = Annotated[str, typer.Option(help="tool, resource, prompt or any.")]
_Name = Annotated[str | None, typer.Option(help="Told by `gatehouse why`.")]
_Before = Annotated[str | None, typer.Option(metavar="ID", help="Put it before this rule; else it becomes the last.")]


@access.command("list")
def list_rules(as_json: AsJson = False) -> None:
    """Show the rules, in the order in which they decide."""
    found = object_in(run(lambda client: client.rest("GET", RULES)))
    if as_json:
        show_json(found)
        return
    show_table(("place", "effect", "who", "what", "name", "id"), map(_row, objects_in(found.get("rules"))))


def _offer(effect: str, about: str) -> None:
    """Offer the command that makes rules of an effect."""

    @access.command(effect, help=f"{about} what a pattern or a set names. The first rule that is about both decides.")
    def create(
        pattern: _Pattern = None,
        set_slug: _Set = None,
        role: _Role = None,
        team: _Team = None,
        user: _User = None,
        key: _Key = None,
        only: _Only = "any",
        name: _Name = None,
        before: _Before = None,
        as_json: AsJson = False,
    ) -> None:
        what = _what(effect, pattern, set_slug, only, name, before)
        _create(what, {"role": role, "team": team, "user": user, "key": key}, as_json)


_offer("allow", "Let somebody use")
_offer("deny", "Keep somebody from using")


@access.command("remove")
def remove(
    which: Annotated[str, typer.Argument(metavar="ID", help="As `gatehouse access list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a rule."""
    answer = run(lambda client: client.rest("DELETE", f"{RULES}/{quote(which, safe='')}"))
    if as_json:
        show_json(answer)
    else:
        show(f"Removed rule {which}.")


def _what(
    effect: str, pattern: str | None, set_slug: str | None, only: str, name: str | None, before: str | None
) -> dict[str, Any]:
    if (pattern is None) == (set_slug is None):
        raise UsageWrong(f"Say what to {effect}: a pattern like 'files__*', or --set SLUG.")
    body: dict[str, Any] = {"name": name or f"{effect} {pattern or set_slug}", "effect": effect, "what": only}
    optional = (("pattern", pattern), ("set", set_slug), ("before", before))
    return body | {field: value for field, value in optional if value is not None}


def _create(body: dict[str, Any], whom: dict[str, str | int | None], as_json: bool) -> None:
    given = {who: str(value) for who, value in whom.items() if value is not None}
    if len(given) > 1:
        raise UsageWrong("A rule is about one of --role, --team, --user and --key: write one rule for each.")

    async def ask(client: GatewayClient) -> object:
        for who, who_id in given.items():
            body.update(who=who, who_id=await team_id(client, who_id) if who == "team" else who_id)
        return await client.rest("POST", RULES, body)

    made = object_in(run(ask))
    if as_json:
        show_json(made)
    else:
        show(one_line(f"Created rule {made.get('name')} ({made.get('id')}) at place {made.get('place')}."))


def _row(rule: dict[str, Any]) -> list[str]:
    who = f"{rule.get('who')} {rule.get('who_id') or ''}"
    what = f"set {rule.get('set')}" if rule.get("set") else str(rule.get("pattern"))
    kind = "" if rule.get("what") == "any" else f"{rule.get('what')} "
    return [
        str(rule.get("place")),
        str(rule.get("effect")),
        who,
        kind + what,
        str(rule.get("name")),
        str(rule.get("id")),
    ]
