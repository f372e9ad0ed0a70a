"""Printing: data to stdout, everything else to stderr, JSON where a program reads it.

A table is drawn by rich on a terminal only; elsewhere its rows are tab-separated lines. Names and descriptions come
from servers that nobody vouches for, so control characters never reach a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

AsJson = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]


def clean(text: str) -> str:
    """`text` without what could steer a terminal."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    return " ".join(clean(text.replace("\n", " ").replace("\t", " ")).split())


def show(text: str) -> None:
    """Print text to stdout: untouched for a program, harmless for a terminal."""
    sys.stdout.write((clean(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def show_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line beside the data, on stderr."""
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in cells)
        return
    # rich costs some 50 ms, and most runs (serve, stdio, pipes, --json) draw no table.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)
