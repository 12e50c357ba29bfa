"""A sweep: the product of some settings' values over protocols, presets and seeds, as a command line gives it. No
torch."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ablations.grid.file import require_number
from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import PRESETS, apply_preset
from cscdarts.settings.overrides import holds_commas, parse_assignments, resolve_key, with_values
from cscdarts.settings.protocols import PROTOCOLS, protocol
from cscdarts.settings.values import Unreadable, whole

#: The word that stands for all settings of an optimiser's recipe.
PROFILE = "profile"
#: Between values that hold commas themselves.
SEPARATOR = ";"
_SEEDS = "a number of seeds such as 3, a range such as 100-119, or a list such as 1,5,7"


@dataclass(frozen=True)
class Swept:
    """A setting and its values.

    Attributes:
        key: its dotted path, or `profile`.
        values: as they were given; a list's parts have commas between.
    """

    key: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """As `--set` takes it."""
        between = SEPARATOR if self.key != PROFILE and holds_commas(self.key) else ","
        return f"{self.key}={between.join(self.values)}"

    def settings(self, value: str) -> dict[str, Any]:
        """What one of the values stands for: dotted path -> value.

        Errors:
            UserError: no such profile.
        """
        if self.key == PROFILE:
            return parse_assignments([f"{PROFILE}={value}"])
        return {self.key: value}


@dataclass(frozen=True)
class Sweep:
    """What is varied; each combination is one run.

    Attributes:
        protocols, presets: names.
        swept: settings in the order given; the last one varies fastest.
        seeds: one block of runs each.
    """

    protocols: tuple[str, ...]
    presets: tuple[str, ...]
    swept: tuple[Swept, ...]
    seeds: tuple[int, ...]

    @property
    def combinations(self) -> int:
        """How many there are."""
        return len(self.seeds) * len(list(self._settings()))

    def runs(self, scale: str) -> Iterator[tuple[tuple[str, ...], RunConfig]]:
        """Each combination in words, always as many, and its run, in the order of the written grid.

        Errors:
            UserError: no such protocol, preset or scale, a value out of range, values that cannot stand together.
        """
        bases = {
            (recipe, preset): apply_preset(protocol(recipe, scale), preset)
            for recipe in self.protocols
            for preset in self.presets
        }
        for seed in self.seeds:
            for recipe, preset, values in self._settings():
                settings: dict[str, Any] = {}
                for one, value in zip(self.swept, values, strict=True):
                    settings |= one.settings(value)
                words = [f"{one.key}={value}" for one, value in zip(self.swept, values, strict=True)]
                told = (f"protocol={recipe}", f"preset={preset}", *words, f"seed={seed}")
                yield told, with_values(bases[recipe, preset], {**settings, "seed": seed})

    def _settings(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        values = itertools.product(*(one.values for one in self.swept))
        yield from itertools.product(self.protocols, self.presets, list(values))


def read_sweep(protocols: Iterable[str], presets: Iterable[str], assignments: Iterable[str], seeds: str) -> Sweep:
    """Read what the options of `cscdarts sweep` say.

    Args:
        protocols, presets: names, each text with commas between.
        assignments: `key=value,value,...`.
        seeds: a number, a range or a list.

    Errors:
        UserError: a name, setting or number that is none, one that is given twice, too many combinations.
    """
    swept = _all_swept(assignments)
    numbers = _seeds(seeds)
    recipes, methods = _names("--protocol", protocols, PROTOCOLS), _names("--preset", presets, PRESETS)
    runs = len(recipes) * len(methods) * len(numbers)
    for one in swept:
        runs *= len(one.values)
        require_number(runs, "--set", one.text)
    require_number(runs, "--seeds", seeds)
    return Sweep(recipes, methods, swept, numbers)


def require_distinct(sweep: Sweep, scale: str) -> list[str]:
    """Make sure that each combination is a run of its own; returns a sentence for each that two methods share, which is
    one run known under both.

    Errors:
        UserError: two combinations of one method are the same run, or see `Sweep.runs`.
    """
    first: dict[str, tuple[tuple[str, ...], str]] = {}
    shared: list[str] = []
    for told, config in sweep.runs(scale):
        before, method = first.setdefault(config.hash, (told, config.labels.method))
        if before == told:
            continue
        one, other = _difference(before, told)
        if method == config.labels.method:
            raise UserError(
                "sweep", f"{one} and {other}", "combinations that are runs of their own", "",
                f"{one} and {other} give the same run ({config.hash}); leave one of them out. Settings of runtime and "
                "labels make no other run.",
            )  # fmt: skip
        shared.append(f"{one} and {other} are one run ({config.hash}), done once")
    return shared


def _difference(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, str]:
    """The words in which two combinations differ."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    return " ".join(a for a, _ in pairs), " ".join(b for _, b in pairs)


def _all_swept(assignments: Iterable[str]) -> tuple[Swept, ...]:
    found: dict[str, Swept] = {}
    for text in assignments:
        key, separator, values = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise UserError("--set", text, "KEY=VALUE,VALUE,...", "For example: --set supernet.split_ratio=1,1/2,1/4")
        if key in ("seed", "seeds"):
            raise UserError("--set", text, "a setting other than the seed", f"Give --seeds {_SEEDS}.")
        if key != PROFILE:
            key = resolve_key(key)
        if key in found:
            raise UserError("--set", text, "each setting once", f"Write all values of {key} in one --set.")
        found[key] = Swept(key, _values(key, text, values))
        for value in found[key].values:
            parse_assignments([f"{key}={value}"])
    return tuple(found.values())


def _values(key: str, text: str, values: str) -> tuple[str, ...]:
    between = SEPARATOR if key != PROFILE and holds_commas(key) else ","
    parts = tuple(part.strip() for part in values.split(between))
    if not all(parts):
        raise UserError("--set", text, f"values with {between!r} between and none empty", "Correct it.")
    twice = next((part for n, part in enumerate(parts) if part in parts[:n]), None)
    if twice is not None:
        raise UserError("--set", text, "each value once", f"Leave one {twice} out.")
    return parts


def _names(option: str, texts: Iterable[str], known: Mapping[str, Any]) -> tuple[str, ...]:
    names = [part.strip() for text in texts for part in text.split(",")]
    for n, name in enumerate(names):
        if name not in known:
            raise UserError(option, name, ", ".join(known), "Choose some of these, with commas between.")
        if name in names[:n]:
            raise UserError(option, name, "each name once", "Leave one out.")
    return tuple(names)


def _seeds(text: str) -> tuple[int, ...]:
    refused = UserError("--seeds", text, f"{_SEEDS}, of whole numbers from 0 to {2**31 - 1:,}", "Correct it.")
    span = re.fullmatch(r"\s*([0-9]{1,10})\s*-\s*([0-9]{1,10})\s*", text, re.ASCII)
    try:
        parts = [int(span[1]), int(span[2])] if span else [whole(part) for part in text.split(",")]
    except Unreadable:
        raise refused from None
    if not all(0 <= part < 2**31 for part in parts) or (len(set(parts)) < len(parts) and not span):
        raise refused
    if span or len(parts) == 1:
        low, high = (parts[0], parts[1]) if span else (0, parts[0] - 1)
        if high < low:
            raise refused
        require_number(high - low + 1, "--seeds", text)
        return tuple(range(low, high + 1))
    return tuple(parts)
