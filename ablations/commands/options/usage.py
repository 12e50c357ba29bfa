"""What click says of a command line that it cannot read, as one sentence with the way out."""

import click

#: Of what click quotes as much is shown as a line can hold.
_LONGEST = 600


def usage_sentence(error: click.ClickException) -> str:
    """What is wrong with the command line, and where its help is."""
    said = " ".join(error.format_message().split()).rstrip(".")
    if len(said) > _LONGEST:
        said = f"{said[: _LONGEST // 2]} ... {said[-_LONGEST // 2 :]}"
    context = getattr(error, "ctx", None)
    command = "cscdarts" if context is None else context.command_path
    end = "" if said.endswith("?") else "."
    return f"{said}{end} See `{command} --help`."


def system_sentence(error: OSError) -> str:
    """What the system refused, which file it was, and the way out."""
    what = error.strerror or str(error) or type(error).__name__
    names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    where = f"{names or 'A file'} cannot be used: {what}."
    return f"{where} Look at its place, its rights and the space that is left, or name another."
