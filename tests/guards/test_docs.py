"""The documents agree with the code: settings, commands, decisions, packages, and every file that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.cli import app
from registry.core.settings import CLIENT_NAMES, PREFIX, Settings
from tests.guards.source import PACKAGES, ROOT, sample, texts

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
DECISIONS = ROOT / "docs" / "adr"

UNSET = "unset"
SECTIONS = ("## Context", "## Decision", "## Alternatives", "## Consequences")
MADE = ("bench/results/", "bench/.run/")
"""What runs leave behind is named by documents, and is not there in a fresh checkout."""
SCREEN = 60
"""Lines of one decision."""

_ROW = re.compile(rf"^\| `({PREFIX}[A-Z_]+)` \| (?:`([^`]*)`|{UNSET}) \| \S.*\|$")
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_PATH = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'tests', 'scripts', 'bench', 'docs'))})/[\w./-]*)`")


# -- settings


def rows(text: str) -> dict[str, str]:
    """Setting and default of each row of the README's table."""
    return {found[1]: found[2] or UNSET for line in text.splitlines() if (found := _ROW.match(line))}


def shown(default: Any) -> str:
    """A default as the table shows it."""
    if default is None or default == ():
        return UNSET
    return str(default)


def settings() -> dict[str, str]:
    return {PREFIX + name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}


def complaints_of_settings(text: str) -> list[str]:
    in_table, in_code = rows(text), settings()
    said = [f"{name} is missing from the README's table" for name in (*in_code, *CLIENT_NAMES) if name not in in_table]
    said += [
        f"the README has {name}, which is no setting" for name in in_table if name not in {*in_code, *CLIENT_NAMES}
    ]
    said += [
        f"the README says that {name} is {in_table[name]} by default, it is {default}"
        for name, default in in_code.items()
        if in_table.get(name, default) != default
    ]
    return sorted(said)


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    assert complaints_of_settings(README.read_text(encoding="utf-8")) == []


def test_the_guard_sees_a_wrong_table() -> None:
    text = README.read_text(encoding="utf-8")
    wrong = re.sub(r"^\| `GATEHOUSE_AUDIT` .*\n", "| `GATEHOUSE_NOVEL` | `1` | Nothing. |\n", text, flags=re.MULTILINE)
    wrong = wrong.replace("| `GATEHOUSE_STDIO_USER` | `nobody` |", "| `GATEHOUSE_STDIO_USER` | `root` |")
    assert complaints_of_settings(wrong) == [
        "GATEHOUSE_AUDIT is missing from the README's table",
        "the README has GATEHOUSE_NOVEL, which is no setting",
        "the README says that GATEHOUSE_STDIO_USER is root by default, it is nobody",
    ]


# -- commands


def commands(text: str) -> Iterator[list[str]]:
    """The words after `gatehouse` of every command in the code blocks, without what the shell adds."""
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\$\(|[|;)]|&&", line.split(" #")[0]):
                words = shlex.split(part, comments=True)
                while words and re.match(r"[A-Za-z_]+=", words[0]):
                    words.pop(0)
                if words and words[0] == "gatehouse":
                    yield words[1:]


def complaints_of_command(words: list[str]) -> list[str]:
    command: Any = typer.main.get_command(app)
    line = " ".join(["gatehouse", *words])
    words = words[: words.index("--")] if "--" in words else list(words)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        name = words.pop(0)
        if name not in command.commands:
            return [f"`{line}`: there is no command {name}"]
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help"}
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [f"`{line}`: there is no option {option}" for option in options if option not in known]


def complaints_of_commands(text: str) -> list[str]:
    return [said for words in commands(text) for said in complaints_of_command(words)]


def test_every_command_of_the_readme_exists() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(list(commands(text))) > 5
    assert complaints_of_commands(text) == []


def test_every_command_is_in_the_readme() -> None:
    top: Any = typer.main.get_command(app)
    text = README.read_text(encoding="utf-8")
    assert [name for name in top.commands if f"gatehouse {name}" not in text] == []


def test_the_guard_sees_a_wrong_command() -> None:
    text = (
        "```sh\n"
        "KEY=$(gatehouse keys make reader)   # gatehouse nothing\n"
        "A=b gatehouse servers add x --colour red -- prog --its-own; gatehouse dance | cat\n"
        "gatehouse --version && gatehouse call gatehouse__servers_list limit=1\n"
        "```\n"
    )
    assert complaints_of_commands(text) == [
        "`gatehouse keys make reader`: there is no command make",
        "`gatehouse servers add x --colour red -- prog --its-own`: there is no option --colour",
        "`gatehouse dance`: there is no command dance",
    ]


# -- decisions


def decisions(folder: Path = DECISIONS) -> list[Path]:
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def complaints_of_decisions(folder: Path = DECISIONS) -> list[str]:
    said: list[str] = []
    listed = set(_LINK.findall((folder / "README.md").read_text(encoding="utf-8")))
    found = decisions(folder)
    said += [f"{path.name} is not listed in docs/adr/README.md" for path in found if path.name not in listed]
    numbers = [path.name[:4] for path in found]
    said += [f"{path.name} has a number that is taken" for path in found if numbers.count(path.name[:4]) > 1]
    for path in found:
        lines = path.read_text(encoding="utf-8").splitlines()
        if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name) or not lines[0].startswith(f"# {path.name[:4]} "):
            said.append(f"{path.name} must be NNNN-title.md and begin with `# NNNN `")
        if [line for line in lines if line.startswith("## ")] != list(SECTIONS):
            said.append(f"{path.name} must have the sections {', '.join(SECTIONS)}")
        if len(lines) > SCREEN:
            said.append(f"{path.name} has {len(lines)} lines, a screen has {SCREEN}")
    return said


def test_every_decision_is_listed_and_has_its_form() -> None:
    assert len(decisions()) > 5
    assert complaints_of_decisions() == []


def test_the_guard_sees_a_decision_out_of_form(tmp_path: Path) -> None:
    good = "# 0001 A\n" + "\n\n".join(SECTIONS)
    sample(tmp_path, "README.md", "[a](0001-a.md) [c](0003-c.md)")
    sample(tmp_path, "0001-a.md", good)
    sample(tmp_path, "0001-b.md", good)
    sample(tmp_path, "0003-c.md", "# 0004 C\n" + "\n" * SCREEN)
    assert complaints_of_decisions(tmp_path) == [
        "0001-b.md is not listed in docs/adr/README.md",
        "0001-a.md has a number that is taken",
        "0001-b.md has a number that is taken",
        "0003-c.md must be NNNN-title.md and begin with `# NNNN `",
        f"0003-c.md must have the sections {', '.join(SECTIONS)}",
        f"0003-c.md has {SCREEN + 1} lines, a screen has {SCREEN}",
    ]


# -- packages, and the files that documents name


def packages(root: Path = ROOT) -> list[str]:
    """Every folder of code, as the documents write it."""
    folders = {path.parent for package in PACKAGES for path in (root / package).rglob("__init__.py")}
    return sorted(f"{folder.relative_to(root).as_posix()}/" for folder in folders)


def unmentioned(text: str, root: Path = ROOT) -> list[str]:
    return [package for package in packages(root) if f"`{package}" not in text]


def test_every_package_is_in_the_architecture() -> None:
    assert unmentioned(ARCHITECTURE.read_text(encoding="utf-8")) == []


def test_the_guard_sees_an_unmentioned_package(tmp_path: Path) -> None:
    for name in ("gateway/__init__.py", "gateway/mcp/__init__.py", "registry/novel/__init__.py"):
        sample(tmp_path, name, "")
    assert unmentioned("`gateway/mcp/router.py` and `gateway/`", tmp_path) == ["registry/novel/"]


def broken(path: Path, root: Path = ROOT) -> list[str]:
    """Links of a document that lead nowhere, and files of the project that it names and that are not there."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(root).as_posix()
    said = [f"{name} links to {link}" for link in _LINK.findall(text) if not (path.parent / link).exists()]
    places = [found for found in dict.fromkeys(_PATH.findall(text)) if not found.startswith(MADE)]
    return said + [f"{name} names {found}" for found in places if not (root / found).exists()]


@pytest.mark.parametrize("path", [path for path in texts() if path.suffix == ".md"], ids=lambda path: path.name)
def test_documents_name_what_is_there(path: Path) -> None:
    assert broken(path) == []


def test_the_guard_sees_what_is_gone(tmp_path: Path) -> None:
    sample(tmp_path, "registry/a.py", "")
    text = "`registry/a.py` `registry/b.py` [a](registry/a.py) [c](c.md#there) [out](https://example.org/x)"
    assert broken(sample(tmp_path, "x.md", text), tmp_path) == ["x.md links to c.md", "x.md names registry/b.py"]
