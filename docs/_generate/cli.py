"""Write the reference page of the command line from the typer application."""

import inspect
import re
import typing
from pathlib import Path
from typing import Any, Callable

import mkdocs_gen_files
import typer

from mtl.cli.app import app
from mtl.cli.common import SECTIONS

INTRO = """# Command line

This page is generated from the commands themselves; `mtl COMMAND --help` prints the same. `python -m mtl` is the same program as
`mtl`. Errors caused by user input are one line on stderr and exit code 1.
"""


def cell(text: str) -> str:
    """The text for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def default_of(parameter: Any) -> str:
    """The default as the help shows it, "" if there is none."""
    value = parameter.default
    if parameter.required or value is None or value == [] or value == () or value == "":
        return "required" if parameter.required else ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


def kind_of(parameter: Any, annotation: Any) -> str:
    """What the option takes; "" for a flag."""
    if annotation is bool:
        return ""
    (kind,) = [each for each in typing.get_args(annotation) if each is not type(None)] or [annotation]
    repeatable = ", repeatable" if typing.get_origin(annotation) is list else ""
    return {str: "text", int: "integer", float: "number", Path: "path"}[kind] + repeatable


def description(command: Any) -> str:
    """The command's help as Markdown, its examples as code."""
    text, examples = [], []
    for line in inspect.cleandoc(command.help or "").replace("\b\n", "").replace("\b", "").splitlines():
        example = re.match(r"\s*Example: (.+)", line)
        (examples if example else text).append(example.group(1) if example else line.strip())
    code = "\n".join(examples)
    return "\n".join(text).strip() + (f"\n\n```console\n{code}\n```" if code else "")


def section(name: str, command: Any, function: Callable) -> str:
    """The part of the page about one command."""
    annotations = typing.get_type_hints(function)
    # Not by class: some versions of typer carry a copy of click.
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option" and parameter.name != "help"]
    usage = " ".join(["mtl", name, "[OPTIONS]", *(f"{p.name.upper()}{'...' if p.nargs == -1 else ''}" for p in arguments)])
    parts = [f"### `mtl {name}` {{ #mtl-{name} }}", "", description(command), "", f"Usage: `{usage}`", ""]
    if arguments:
        parts += ["| argument | meaning |", "| --- | --- |"]
        parts += [f"| `{p.name.upper()}` | {cell(getattr(p, 'help', '') or '')} |" for p in arguments] + [""]
    if options:
        parts += ["| option | takes | default | meaning |", "| --- | --- | --- | --- |"]
        for p in options:
            names = ", ".join(f"`{option}`" for option in [*p.opts, *p.secondary_opts])
            parts.append(f"| {names} | {kind_of(p, annotations[p.name])} | {default_of(p)} | {cell(p.help or '')} |")
    return "\n".join(parts) + "\n"


def page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(app)
    commands = dict(group.commands)
    functions = {
        command.name or command.callback.__name__.replace("_", "-"): command.callback for command in app.registered_commands
    }
    parts = [INTRO]
    for title, names in SECTIONS.items():
        parts += [f"## {title}\n", *(section(name, commands.pop(name), functions[name]) for name in names)]
    assert not commands, f"in no section of the help: {', '.join(commands)}"
    return "\n".join(parts)


with mkdocs_gen_files.open("reference/cli.md", "w") as file:
    file.write(page())
