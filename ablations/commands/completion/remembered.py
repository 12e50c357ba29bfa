"""The tree of commands and the names that completion needs, kept between two TABs: to import them takes half a second,
to read them none."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import cscdarts

#: Where the harness lies, and where the engine: in a wheel the one is inside the other.
_HARNESS, _ENGINE = Path(__file__).parents[3], Path(cscdarts.__file__).parents[1]
#: What the remembered things are read from; a change in one of these files makes them be read again.
_SOURCES = (
    "ablations/cli.py", "ablations/commands", "cscdarts/settings", "cscdarts/spaces", "slurm/profiles",
    "slurm/backends/slurm", "ablations/drive/slurm.py", "ablations/drive/tell/notify.py",
)  # fmt: skip
_ENDINGS = (".py", ".yaml")


def known(cli: click.Group) -> dict[str, Any]:
    """What completion knows of commands (`commands`) and names (`names`), as plain data: remembered, or read now.

    Args:
        cli: the whole command.
    """
    mark, place = _mark(), _place()
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if found["mark"] == mark:
            return found
    found = {"mark": mark, "commands": _described(cli)["commands"], "names": _names()}
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        # Two TABs at once write two files; the last one stays.
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(place)
    return found


def stand_in(cli: click.Group, commands: dict[str, Any]) -> click.Group:
    """A command of the same form as the whole one, which can be completed and not run."""
    inner = {name: _command(name, one) for name, one in commands.items()}
    return click.Group(cli.name, commands=inner, params=cli.params, context_settings=cli.context_settings)


class _WithDefault(click.Group):
    """A group whose hidden command is meant where the first word names none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the hidden command's name first."""
        hidden = next(name for name, one in self.commands.items() if one.hidden)
        return super().parse_args(ctx, args if args and args[0] in self.commands else [hidden, *args])


def _place() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    return Path(cache) / "cscdarts" / "completion.json"


def _mark() -> str:
    """What changes whenever one of the sources does."""
    seen = [(path, found.st_mtime_ns, found.st_size) for path, found in sorted(_files())]
    return hashlib.sha256(repr((cscdarts.__version__, sys.version, seen)).encode()).hexdigest()


def _files() -> Iterator[tuple[str, os.stat_result]]:
    for source in _SOURCES:
        path = (_ENGINE if source.startswith("cscdarts/") else _HARNESS) / source
        if path.is_file():
            yield str(path), path.stat()
        for folder, _, names in os.walk(path):
            for name in names:
                if name.endswith(_ENDINGS):
                    place = Path(folder) / name
                    yield str(place), place.stat()


def _names() -> dict[str, Any]:
    from ablations.drive.backend import LOCAL, profile_keys, profiles
    from cscdarts.settings.methods import PRESETS
    from cscdarts.settings.optimiser_recipes import PROFILES
    from cscdarts.settings.overrides import field_paths, words_of
    from cscdarts.settings.protocols import PROTOCOLS, SCALES
    from cscdarts.spaces import SPACES
    from cscdarts.spaces.known import KNOWN_CELLS

    suggested = {
        "supernet.split_ratio": ["1", "3/4", "1/2", "1/4", "1/8"],
        "supernet.space": list(SPACES.names()),
        "search.genotype": list(KNOWN_CELLS),
        "runtime.device": ["auto", "cpu", "cuda"],
        "runtime.benchmark": ["embedded", "pip"],
    }
    settings = {path: suggested.get(path) or words_of(path) for path in field_paths() if path != "schema_version"}
    return {
        "protocols": {name: one.title for name, one in PROTOCOLS.items()},
        "presets": {name: one.title for name, one in PRESETS.items()},
        "scales": dict.fromkeys(SCALES, ""),
        "spaces": dict.fromkeys(SPACES.names(), ""),
        "backends": {LOCAL: "this machine", **profiles()},
        "profile keys": dict.fromkeys(profile_keys(), ""),
        "cells": {name: cell.source for name, cell in KNOWN_CELLS.items()},
        "settings": {**settings, "profile": list(PROFILES), "seeds": []},
    }


def _described(command: click.Command) -> dict[str, Any]:
    """A command and what is below it, as plain data."""
    told: dict[str, Any] = {
        "help": command.get_short_help_str(), "hidden": command.hidden,
        "params": [_parameter(one) for one in command.params],
    }  # fmt: skip
    if isinstance(command, click.Group):
        told["commands"] = {}
        with click.Context(command, resilient_parsing=True) as context:
            for name in command.list_commands(context):
                # One that cannot be imported is left out, and the others are completed.
                with contextlib.suppress(Exception):
                    one = command.get_command(context, name)
                    told["commands"] |= {} if one is None else {name: _described(one)}
        told["default"] = type(command).parse_args is not click.Group.parse_args and any(
            one.hidden for one in command.commands.values()
        )
    return told


def _parameter(one: click.Parameter) -> dict[str, Any]:
    choices = list(map(str, one.type.choices)) if isinstance(one.type, click.Choice) else None
    told: dict[str, Any] = {
        "name": one.name, "nargs": one.nargs, "metavar": one.metavar, "choices": choices,
        "path": isinstance(one.type, click.Path),
    }  # fmt: skip
    if isinstance(one, click.Option):
        told |= {"opts": one.opts, "other": one.secondary_opts, "flag": one.is_flag, "help": one.help}
        told |= {"multiple": one.multiple, "hidden": one.hidden}
    return told


def _command(name: str, told: dict[str, Any]) -> click.Command:
    params = [_made(one) for one in told["params"]]
    if "commands" not in told:
        return click.Command(name, params=params, help=told["help"], hidden=told["hidden"])
    inner = {word: _command(word, one) for word, one in told["commands"].items()}
    kind = _WithDefault if told["default"] else click.Group
    return kind(name, commands=inner, params=params, help=told["help"], hidden=told["hidden"])


def _made(told: dict[str, Any]) -> click.Parameter:
    kind: Any = click.Choice(told["choices"]) if told["choices"] else click.Path() if told["path"] else str
    if "opts" not in told:
        return click.Argument([told["name"]], nargs=told["nargs"], metavar=told["metavar"], type=kind, required=False)
    if told["flag"]:
        names = [f"{one}/{told['other'][0]}" if told["other"] else one for one in told["opts"]]
        return click.Option([*names, told["name"]], is_flag=True, help=told["help"], hidden=told["hidden"])
    return click.Option(
        [*told["opts"], told["name"]], nargs=told["nargs"], multiple=told["multiple"], metavar=told["metavar"],
        type=kind, help=told["help"], hidden=told["hidden"],
    )  # fmt: skip
