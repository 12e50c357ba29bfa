"""Every command of the console with its arguments and options, from the commands themselves."""

from collections.abc import Iterator

import click

from ablations.cli import cscdarts
from docs.hooks.markdown import code, escaped, table

#: Commands whose name need not be typed: what they are called by.
UNNAMED: dict[tuple[str, ...], tuple[str, ...]] = {("report", "build"): ("report",)}


def walk(
    command: click.Command = cscdarts, words: tuple[str, ...] = (), above: click.Context | None = None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Every command below one, itself included: the words that call it, the command, its context."""
    context = click.Context(command, info_name=words[-1] if words else "cscdarts", parent=above)
    yield words, command, context
    if isinstance(command, click.Group):
        inner = getattr(command, "commands", None) or command.list_commands(context)
        for name in inner:
            found = command.get_command(context, name)
            assert found is not None, name
            yield from walk(found, (*words, name), context)


def usage(words: tuple[str, ...], command: click.Command, context: click.Context) -> str:
    """How a command is called, on one line."""
    pieces = command.collect_usage_pieces(context)
    return " ".join(["cscdarts", *UNNAMED.get(words, words), *pieces])


def commands() -> str:
    """The reference of all commands."""
    parts = []
    for words, command, context in walk():
        name = " ".join(["cscdarts", *UNNAMED.get(words, words)])
        if (*words, "build") in UNNAMED:  # its own line is that of what it calls
            continue
        text = "\n\n".join(escaped(paragraph) for paragraph in (command.help or "").split("\n\n") if paragraph.strip())
        shown = f"```text\n{usage(words, command, context)}\n```"
        level = "##" if len(words) < 2 or words in UNNAMED else "###"
        anchor = "-".join(["cscdarts", *words])
        parts.append(f"{level} `{name}` {{ #{anchor} }}\n\n{shown}\n\n{text}\n\n{_options(command, context)}".rstrip())
    return "\n\n".join(parts)


def _options(command: click.Command, context: click.Context) -> str:
    records = [
        record
        for one in command.get_params(context)
        if (record := one.get_help_record(context)) is not None and record[1] and "--help" not in record[0]
    ]
    return table(["option", "is"], [[code(names), escaped(text)] for names, text in records]) if records else ""
