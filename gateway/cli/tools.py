"""`gatehouse tools list` and `gatehouse call`: the tools behind the gateway, through the same door as every agent."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.cli.client import GatewayClient, run
from gateway.cli.data import object_in, objects_in
from gateway.cli.errors import CommandFailed, UsageWrong
from gateway.cli.output import AsJson, note, show, show_json, show_table
from gateway.cli.rpc import McpCaller, RpcFailed

tools = typer.Typer(no_args_is_help=True, help="The tools that the key may use.")


@tools.command("list")
def list_tools(as_json: AsJson = False) -> None:
    """List the tools that the key may use."""
    found = run(lambda client: McpCaller(client).tools())
    if as_json:
        show_json(found)
        return
    show_table(("tool", "description"), ([str(tool.get("name")), _first_line(tool)] for tool in found))


def _first_line(tool: dict[str, Any]) -> str:
    text = str(tool.get("description") or tool.get("title") or "").strip()
    return text.splitlines()[0] if text else ""


def call(
    tool: Annotated[str, typer.Argument(help="As `gatehouse tools list` shows it.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[K=V]...", help="A value is JSON where it reads as JSON, else text.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Call a tool and print what it answers."""
    values = dict(_argument(text) for text in arguments or [])

    async def work(client: GatewayClient) -> dict[str, Any]:
        return await McpCaller(client, _progress).call(tool, values)

    try:
        result = run(work)
    except RpcFailed as error:
        if "Unknown tool" not in error.message:
            raise
        hint = f"`gatehouse tools list` shows what there is, `gatehouse why {tool}` why this is not."
        raise RpcFailed(f"{error.message}: {hint}", details=error.details) from None
    kind = result.get("resultType", "complete")
    if as_json:
        show_json(result)
    if kind == "input_required":
        raise CommandFailed(f"{tool} asks for further input, which the command line cannot give: use an MCP client.")
    if kind != "complete":
        raise CommandFailed(f"{tool} answered with {kind!r}, which the command line cannot follow: use an MCP client.")
    text = "\n".join(_printable(part) for part in objects_in(result.get("content")))
    if result.get("isError"):
        raise CommandFailed(f"{tool} failed{': ' + text if text else '.'}")
    if not as_json:
        if not text and "structuredContent" in result:
            show_json(result["structuredContent"])
        else:
            show(text)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageWrong(f"{text!r} is not an argument: write NAME=VALUE.")
    try:
        return name, json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return name, value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _progress(method: str, params: dict[str, Any]) -> None:
    if method == "notifications/progress":
        done, total, message = params.get("progress"), params.get("total"), params.get("message")
        note(f"[{done}{'' if total is None else f'/{total}'}] {message or ''}")
    elif method == "notifications/message":
        note(f"{params.get('level', 'info')}: {_value(params.get('data'))}")


def _value(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def _printable(part: dict[str, Any]) -> str:
    """A piece of content as text; what is not text is named."""
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "resource":
            resource = object_in(part.get("resource"))
            return str(resource["text"]) if "text" in resource else f"[{resource.get('uri')}, binary]"
        case "resource_link":
            return f"[{part.get('uri')}]"
        case kind:
            size = len(part.get("data") or "") * 3 // 4
            return f"[{kind} {part.get('mimeType', '')}, about {size} bytes; --json has the data]"
