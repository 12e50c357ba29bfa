"""A sweep as a grid's file: ordinary loops that a person reads and changes, in the form that `ruff format` gives. No
torch."""

import json
import keyword
import shlex
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from ablations.grid.sweep import PROFILE, Sweep, Swept
from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values

#: Lines that a formatter of the usual width leaves as they are.
WIDTH = 88
_INDENT = "    "
#: Names that the file uses for something else.
_TAKEN = frozenset(
    {"seed", "scale", "base", "recipe", "preset", "values", "grid", "protocol", "range", "apply_preset", "with_values"}
)


def default_name(sweep: Sweep) -> str:
    """The grid's name where none is given: `sweep_` and what is varied, or the method where nothing is."""
    varied = [one.key.rpartition(".")[2] for one in sweep.swept if len(one.values) > 1]
    return "_".join(["sweep", *(varied or sweep.presets)])[:100]


def command_of(sweep: Sweep, name: str) -> list[str]:
    """The command line that writes this file, with its defaults spelled out."""
    words = ["cscdarts", "sweep", "--protocol", ",".join(sweep.protocols), "--preset", ",".join(sweep.presets)]
    for one in sweep.swept:
        words += ["--set", one.text]
    words += ["--seeds", _seeds_text(sweep.seeds)]
    return words if name == default_name(sweep) else [*words, "--name", name]


def grid_text(sweep: Sweep, name: str, scale: str) -> str:
    """The content of `NAME.py`.

    Args:
        scale: at which values are read to be written as Python's; they are the same at each.

    Errors:
        UserError: see `Sweep.runs`.
    """
    _, config = next(sweep.runs(scale))
    several_seeds = len(sweep.seeds) > 1
    lines = [
        *_docstring(sweep, name), "", "from collections.abc import Iterator", "",
        "from cscdarts import RunConfig, apply_preset, protocol, with_values",
    ]  # fmt: skip
    if any(one.key == PROFILE for one in sweep.swept):
        lines.append("from cscdarts.settings.optimiser_recipes import PROFILES")
    if several_seeds:
        lines += ["", *_sequence("SEEDS = ", list(sweep.seeds), "")]
    lines += ["", "", "def grid(scale: str) -> Iterator[RunConfig]:"]
    lines.append(f'{_INDENT}"""{_counted(sweep)}."""')
    lines += _body(sweep, config, several_seeds)
    return "\n".join(lines) + "\n"


def _body(sweep: Sweep, config: RunConfig, several_seeds: bool) -> Iterator[str]:
    depth = 1

    def loop(variable: str, values: Sequence[Any] | str) -> Iterator[str]:
        nonlocal depth
        indent = _INDENT * depth
        depth += 1
        if isinstance(values, str):
            yield f"{indent}for {variable} in {values}:"
        else:
            yield from _sequence(f"{indent}for {variable} in ", values, ":")

    one_base = len(sweep.protocols) == len(sweep.presets) == 1
    if one_base:
        yield f"{_INDENT}{_base(_literal(sweep.protocols[0]), _literal(sweep.presets[0]))}"
    if several_seeds:
        yield from loop("seed", "SEEDS")
    if not one_base:
        recipe, preset = _literal(sweep.protocols[0]), _literal(sweep.presets[0])
        if len(sweep.protocols) > 1:
            recipe = "recipe"
            yield from loop(recipe, sweep.protocols)
        if len(sweep.presets) > 1:
            preset = "preset"
            yield from loop(preset, sweep.presets)
        yield f"{_INDENT * depth}{_base(recipe, preset)}"
    items: list[str] = []
    for one in sweep.swept:
        values = [_typed(one, value, config) for value in one.values]
        shown = _literal(values[0])
        if len(values) > 1:
            shown = _variable(one, sweep)
            yield from loop(shown, values)
        items.append(f"**PROFILES[{shown}]" if one.key == PROFILE else f"{_literal(one.key)}: {shown}")
    items.append(f'"seed": {"seed" if several_seeds else sweep.seeds[0]}')
    indent = _INDENT * depth
    line = f"{indent}yield with_values(base, {{{', '.join(items)}}})"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}values = {{"
    yield from (f"{indent}{_INDENT}{item}," for item in items)
    yield f"{indent}}}"
    yield f"{indent}yield with_values(base, values)"


def _base(recipe: str, preset: str) -> str:
    return f"base = apply_preset(protocol({recipe}, scale), {preset})"


def _variable(one: Swept, sweep: Sweep) -> str:
    """The last part of a setting's path, or all of it where that part means something else."""
    leaf = one.key.rpartition(".")[2]
    same = [other for other in sweep.swept if other.key.rpartition(".")[2] == leaf]
    return one.key.replace(".", "_") if len(same) > 1 or leaf in _TAKEN or keyword.iskeyword(leaf) else leaf


def _typed(one: Swept, text: str, config: RunConfig) -> Any:
    """A value as Python's where its field holds a number, a truth, a list or nothing; otherwise its text."""
    if one.key == PROFILE:
        return text
    try:
        value: Any = with_values(config, {one.key: text})
    except UserError:  # not possible beside the first values of the others; the text is read as well
        return text
    for part in one.key.split("."):
        value = getattr(value, part)
    if isinstance(value, Fraction | str) or (value is None and text.lower() != "null"):
        return text
    return value


def _literal(value: Any) -> str:
    """Python's text for a value, in the quotes that a formatter prefers."""
    if isinstance(value, tuple | list):
        parts = ", ".join(map(_literal, value))
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    if not isinstance(value, str):
        return repr(value)
    # Single quotes only where they save escapes.
    return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)


def _sequence(before: str, values: Sequence[Any], after: str) -> list[str]:
    """A tuple behind some text, one value a line where they are too many for one; of many whole numbers in a row a
    range."""
    if len(values) > 5 and all(type(value) is int for value in values):
        low, high = values[0], values[-1]
        if list(values) == list(range(low, high + 1)):
            return [f"{before}range({f'{low}, ' if low else ''}{high + 1}){after}"]
    line = f"{before}{_literal(tuple(values))}{after}"
    if len(line) <= WIDTH:
        return [line]
    indent = before[: len(before) - len(before.lstrip())]
    return [f"{before}(", *(f"{indent}{_INDENT}{_literal(value)}," for value in values), f"{indent}){after}"]


def _counted(sweep: Sweep) -> str:
    """How many runs, and of what."""
    parts = [
        f"{len(values)} {name}"
        for name, values in (("protocols", sweep.protocols), ("presets", sweep.presets))
        if len(values) > 1
    ]
    parts += [f"{len(one.values)} of {one.key.rpartition('.')[2]}" for one in sweep.swept if len(one.values) > 1]
    parts.append(f"{len(sweep.seeds)} seed{'s' * (len(sweep.seeds) > 1)}")
    told = f"{sweep.combinations} run{'s' * (sweep.combinations > 1)}: {' x '.join(parts)}"
    return told if len(told) < WIDTH - 15 else f"{sweep.combinations} runs"


def _docstring(sweep: Sweep, name: str) -> list[str]:
    """What the file is and the command that wrote it."""
    lines, line = [], f"{_INDENT}cscdarts sweep"
    words = [shlex.quote(word) for word in command_of(sweep, name)[2:]]
    for option in (" ".join(words[at : at + 2]) for at in range(0, len(words), 2)):
        if len(line) + len(option) + 3 > WIDTH and line.strip():
            lines.append(f"{line} \\")
            line = f"{_INDENT * 2}{option}"
        else:
            line = f"{line} {option}"
    lines.append(line)
    text = "\n".join(lines)
    raw = "\\" in text and '"""' not in text
    if not raw:
        text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    mark = f'{"r" if raw else ""}"""'
    return [f"{mark}Written by the command below, and an ordinary grid from here on.", "", *text.split("\n"), '"""']


def _seeds_text(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
