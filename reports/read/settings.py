"""Settings: the runs that differ in nothing but their seeds, and what may be compared with what."""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cscdarts.settings.config import RunConfig, neutral_values
from cscdarts.settings.overrides import dotted_texts
from cscdarts.spaces import DARTS
from cscdarts.spaces.known import name_of
from reports import statistics
from reports.read.searches import by_search
from reports.read.shown import shown_value
from reports.read.store import Store
from reports.words import counted

#: Parameters that tell seeds apart, not settings.
SEEDS = ("seed", "evaluation.seed")
#: Errors of networks that differ in these are errors of different experiments.
RECIPE = ("supernet.space", "evaluation.channels", "evaluation.cells", "evaluation.epochs")
#: The factors of the ablation, always shown.
FACTORS = ("supernet.split_ratio", "supernet.identity", "search.order")
FACTOR_LABELS = {
    "supernet.split_ratio": "ratio",
    "supernet.identity": "identity",
    "search.order": "order",
}
#: Methods as tables print them and as a terminal does, in the tables' order.
METHODS = {
    "csc": ("CSC-DARTS", "CSC"),
    "darts1": ("DARTS (1st order)", "DARTS 1st"),
    "darts2": ("DARTS (2nd order)", "DARTS 2nd"),
    "pcdarts": ("PC-DARTS", "PC-DARTS"),
    "dartsminus": ("DARTS-", "DARTS-"),
    "pdarts": ("P-DARTS", "P-DARTS"),
    "gdas": ("GDAS", "GDAS"),
    "snas": ("SNAS (mild)", "SNAS"),
    "drnas": ("DrNAS", "DrNAS"),
    "sdarts-rs": ("SmoothDARTS-RS", "SDARTS-RS"),
    "beta-darts": ("β-DARTS", "beta-DARTS"),
    "fairdarts": ("FairDARTS", "FairDARTS"),
    "darts-pt": ("DARTS-PT", "DARTS-PT"),
    "darts-es": ("DARTS-ES", "DARTS-ES"),
    "random-ws": ("Random, shared weights", "random WS"),
    "random": ("Random architectures", "random"),
}
METHOD_ORDER = tuple(METHODS)


#: One run: a row of `Store.runs`.
Run = dict[str, Any]


def number(run: Mapping[str, Any], metric: str) -> float:
    """A run's metric, NaN where it has none."""
    value = run.get(metric)
    return float(value) if isinstance(value, int | float) else float("nan")


def column(runs: Iterable[Mapping[str, Any]], metric: str) -> statistics.Values:
    """The finite values of a metric over runs, in their order, shape (m,)."""
    return statistics.finite([number(run, metric) for run in runs])


def by_machine(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by the machine that their search ran on, machines sorted; memory and time of two machines are never put
    together."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=search_machine):
        found.setdefault(search_machine(run) or "unknown machine", []).append(run)
    return found


def search_machine(run: Mapping[str, Any]) -> str:
    """The machine that a run's search ran on: where another run made it, that one's."""
    return str(run.get("search_hardware") or run["hardware"] or "")


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting of the experiment with its runs.

    Attributes:
        anchor: a name for links, from the setting's parameters.
        methods: short names it goes by; several where two methods are the same configuration.
        scale, data: at which scale, on which data (the recorded label), both as printed.
        dataset, space: data set and search space of its config.
        params: the dotted parameters, seeds left out.
        runs: its rows of `Store.runs` as plain dicts, by seed; a frame per setting costs minutes where there are a
            thousand.
    """

    anchor: str
    methods: tuple[str, ...]
    scale: str
    data: str
    dataset: str
    space: str
    params: Mapping[str, str]
    runs: tuple[Run, ...]

    @functools.cached_property
    def done(self) -> tuple[Run, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run["status"] == "done")

    @property
    def method(self) -> str:
        """The first method's short name, `csc` first of all."""
        return min(self.methods, key=method_rank) if self.methods else "–"

    @property
    def names(self) -> str:
        """All methods as printed in tables, the leading one first."""
        return " = ".join(method_title(name) for name in sorted(self.methods, key=method_rank)) or "–"

    @property
    def published_cell(self) -> str | None:
        """The name of the known cell that it trains in its plain network, None for any other."""
        if not self.given or self.space != DARTS.name:
            return None
        identity = self.params.get("supernet.identity", "none")
        active = identity != "none" and self.params.get("supernet.identity_phases", "both") in ("both", "eval")
        split = normal_text(self.params.get("evaluation.split_eval", "")) == "true"
        return None if active or split else name_of(self.params.get("search.genotype", ""))

    @functools.cached_property
    def searches(self) -> tuple[tuple[Run, ...], ...]:
        """The finished runs by the search that they share; of a given cell, which has none, each run alone."""
        return tuple(tuple(same) for same in by_search(self.done))

    @property
    def given(self) -> bool:
        """Whether its cell was given, so that only retrainings vary."""
        return self.params.get("search.strategy") == "given"

    @functools.cached_property
    def hardware(self) -> tuple[str, ...]:
        """The machines of the finished runs and of their searches."""
        named = (name for run in self.done for name in (str(run["hardware"]), search_machine(run)))
        return tuple(sorted({name for name in named if name}))

    @functools.cached_property
    def codes(self) -> tuple[str, ...]:
        """The code versions of the finished runs, `+` marking uncommitted changes."""
        return tuple(sorted({code(run) for run in self.done}))

    @property
    def nameless(self) -> bool:
        """Whether its cell was given and is none that is known by a name: a probe, no method's result."""
        return self.given and name_of(self.params.get("search.genotype", "")) is None

    def values(self, metric: str) -> statistics.Values:
        """The finite values of a metric over searches, by seed, shape (n,): of each search the mean over its finished
        retrainings. Of a given cell each run's value."""
        # Most searches have one retraining, and a report asks thousands of times.
        means = (
            number(same[0], metric) if len(same) == 1 else statistics.mean(column(same, metric))
            for same in self.searches
        )
        return statistics.finite([value for value in means if value is not None])

    def describe(self, names: Iterable[str] = FACTORS) -> str:
        """`ratio 1/2, identity cell, order 2`."""
        shown = ((name, shown_value(name, self.params.get(name, ""))) for name in names)
        return ", ".join(f"{factor_label(name)} {text}" for name, text in shown if text != "–" or name in FACTORS)

    def label(self, names: Iterable[str] = FACTORS) -> str:
        """Short name for legends: the factors for CSC-DARTS, the method's name for a baseline."""
        return self.describe(names) if "csc" in self.methods else self.names


@dataclass(frozen=True, eq=False)
class Study:
    """Settings that share data, scale, search space and size of the retraining, so that their results may be compared.

    Attributes:
        data, scale: as printed.
        recipe: what tells this study from others on the same data at the same scale, "" where there is none.
        settings: sorted, CSC-DARTS first.
        reference: the setting that differences are taken to, None without a finished CSC-DARTS setting.
        varied: dotted parameters that differ between settings of one method, besides `FACTORS`.
    """

    data: str
    scale: str
    recipe: str
    settings: tuple[Setting, ...]
    reference: Setting | None
    varied: tuple[str, ...]

    @property
    def title(self) -> str:
        """`digits · scale reduced`."""
        return f"{self.data} · scale {self.scale}" + (f" · {self.recipe}" if self.recipe else "")

    def label(self, setting: Setting) -> str:
        """A setting's short name, with what tells it from the others of the study that have the same one."""
        name = setting.label()
        same = [other for other in self.settings if other.label() == name]
        telling = [key for key in self.varied if len({other.params.get(key, "") for other in same}) > 1]
        if "csc" not in setting.methods:
            telling = [key for key in FACTORS if len({other.params.get(key, "") for other in same}) > 1] + telling
        return ", ".join(part for part in (name, setting.describe(telling)) if part)

    @property
    def ablation(self) -> list[Setting]:
        """The CSC-DARTS settings."""
        return [setting for setting in self.settings if "csc" in setting.methods]

    @property
    def baselines(self) -> list[Setting]:
        """The other methods' settings."""
        return [setting for setting in self.settings if "csc" not in setting.methods]


def method_rank(name: str) -> tuple[int, str]:
    """Sort key of a method's short name."""
    return (METHOD_ORDER.index(name) if name in METHOD_ORDER else len(METHOD_ORDER), name)


def method_title(name: str) -> str:
    """A method as printed in tables; a name that is not ours stands for itself."""
    return METHODS[name][0] if name in METHODS else name


def factor_label(name: str) -> str:
    """A parameter's short name."""
    return FACTOR_LABELS.get(name, name.rsplit(".", 1)[-1].replace("_", " "))


def code(run: Mapping[Any, Any]) -> str:
    """A run's code version: seven digits of the commit, `+` when the tree had changes, `unknown` when not recorded.

    Where another version made its search, that stands behind it.
    """
    commit, dirty = str(run["commit"] or ""), str(run["dirty"]).lower() in ("true", "1", "yes")
    own, searched = (commit[:7] or "unknown") + ("+" if dirty else ""), str(run.get("search_code") or "")
    search = searched[:7] + ("+" if searched.endswith("+dirty") else "")
    return f"{own} (search {search})" if search and search != own else own


# Typed: 1, 1.0 and True are one key otherwise, and the first one asked for would answer for all.
@functools.lru_cache(maxsize=65536, typed=True)
def normal_text(value: object) -> str:
    """A parameter's value with the spelling of lists and booleans evened out, for comparison only."""
    return str(value).lower().translate(str.maketrans("", "", "[](){}'\" ")).rstrip(",")


@functools.cache
def default_params() -> Mapping[str, str]:
    """The dotted defaults of `RunConfig`, values as text."""
    return dotted_texts(RunConfig().model_dump(mode="json", exclude={"runtime", "labels"}))


def param_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold config parameters, in order."""
    return sorted(name for name in frame.columns if "." in name)


def studies(store: Store) -> list[Study]:
    """All runs of a store, settings gathered into blocks that may be compared; sorted by data and scale."""
    frame = store.runs
    if frame.empty:
        return []
    names = [name for name in param_columns(frame) if name not in SEEDS]
    if names:
        frame = frame.assign(**_filled(frame[names]))
    runs: list[Run] = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    labels = _data_labels(frame)
    gathered: dict[tuple[str, ...], list[tuple[str, Run]]] = {}
    for run, label in zip(runs, labels, strict=True):
        params = tuple(str(run[name]) for name in names)
        # A run whose parameters are not mirrored yet cannot be put with others, so it stands alone under its hash.
        key = (str(run["scale"]), label, *params) if any(params) else (str(run["scale"]), label, str(run["hash"]))
        gathered.setdefault(key, []).append((label, run))
    blocks: dict[tuple[str, str], dict[tuple[str, ...], list[Setting]]] = {}
    for _, group in sorted(gathered.items()):
        label, first = group[0]
        params_of = {name: str(first[name]) for name in names}
        lone = "" if any(params_of.values()) else str(first["hash"])
        setting = Setting(
            anchor=_anchor(str(first["scale"]), label, params_of, lone),
            methods=_methods([run for _, run in group], params_of),
            scale=str(first["scale"]) or "unknown",
            data=label,
            dataset=params_of.get("data.dataset", ""),
            space=params_of.get("supernet.space", ""),
            params=params_of,
            runs=tuple(sorted((run for _, run in group), key=lambda run: (run["seed"], run["hash"]))),
        )
        sizes = tuple(params_of.get(name, "") for name in RECIPE)
        blocks.setdefault((setting.data, setting.scale), {}).setdefault(sizes, []).append(setting)
    return [
        _study(*where, _recipe(sizes, list(same)), found)
        for where, same in sorted(blocks.items())
        for sizes, found in sorted(same.items())
    ]


def _filled(params: pd.DataFrame) -> dict[str, pd.Series]:
    """Parameters without gaps: a field that the mirror leaves out while neutral has that value, others are ""."""
    neutral, mirrored = neutral_values(), params.notna().any(axis=1)
    filled = {}
    for name, values in params.astype(object).items():
        absent = mirrored.map({True: str(neutral.get(str(name), "")), False: ""})
        filled[str(name)] = values.where(values.notna(), absent)
    return filled


def _methods(runs: Sequence[Run], params: Mapping[str, str]) -> tuple[str, ...]:
    """The short names of a setting's runs. A given cell is no method's result, whatever its runs are called."""
    names = dict.fromkeys(name for run in runs for name in str(run["methods"]).split(",") if name)
    if params.get("search.strategy") == "given":
        cell = " ".join(["cell", *filter(None, [name_of(params.get("search.genotype", ""))])])
        names = dict.fromkeys(cell if name in METHODS else name for name in names)
    return tuple(names)


def _recipe(sizes: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    """The sizes that differ between the studies on one data set at one scale, in words."""
    words = ("", "channel", "cell", "retraining epoch")
    differing = [k for k in range(len(RECIPE)) if len({other[k] for other in others}) > 1]
    return ", ".join(_size(sizes[k], words[k]) for k in differing)


def _size(value: str, what: str) -> str:
    if not what:
        return f"{value or 'unknown'} space"
    return counted(int(value), what) if value.isdigit() else f"{value or 'unknown'} {what}s"


def _anchor(scale: str, data: str, params: Mapping[str, str], lone: str) -> str:
    """A short name that hangs on the setting alone, so that two reports give a setting the same one."""
    pairs = sorted((name, value) for name, value in params.items() if value)
    return "s-" + hashlib.sha256(repr((scale, data, pairs, lone)).encode()).hexdigest()[:10]


def _data_labels(frame: pd.DataFrame) -> list[str]:
    """The label that a finished run recorded. Only a finished run knows its data's label for sure, so an unfinished one
    takes that of the finished runs on the same data set, where they agree."""
    named = (frame["data.dataset"] if "data.dataset" in frame else pd.Series("", index=frame.index)).fillna("")
    known: dict[str, set[str]] = {}
    for dataset, label, status in zip(named, frame["data"], frame["status"], strict=True):
        if label and status == "done":
            known.setdefault(str(dataset), set()).add(str(label))
    labels = []
    for dataset, label, status in zip(named, frame["data"], frame["status"], strict=True):
        others = known.get(str(dataset), set())
        if status != "done" and len(others) == 1:
            labels.append(next(iter(others)))
        else:
            labels.append(str(label) or str(dataset) or "unknown data")
    return labels


def _study(data: str, scale: str, recipe: str, settings: list[Setting]) -> Study:
    varied: set[str] = set()
    by_method: dict[str, list[Setting]] = {}
    for setting in settings:
        by_method.setdefault(setting.method, []).append(setting)
    for same in by_method.values():
        for name in same[0].params:
            if name not in FACTORS and len({setting.params.get(name) for setting in same}) > 1:
                varied.add(name)
    extra = tuple(sorted(varied))
    ordered = sorted(settings, key=lambda setting: _sort_key(setting, extra))
    return Study(data, scale, recipe, tuple(ordered), _reference(ordered), extra)


def _sort_key(setting: Setting, extra: Sequence[str]) -> tuple[Any, ...]:
    from fractions import Fraction

    try:
        ratio = -Fraction(setting.params.get(FACTORS[0], "0") or "0")
    except (ValueError, ZeroDivisionError):
        ratio = Fraction(1)
    identity = {"cell": 0, "edge": 1, "none": 2}.get(setting.params.get(FACTORS[1], ""), 3)
    order = setting.params.get(FACTORS[2], "")
    rest = tuple(setting.params.get(name, "") for name in extra)
    return (method_rank(setting.method), ratio, identity, order, rest, setting.anchor)


def _reference(settings: Sequence[Setting]) -> Setting | None:
    """The finished CSC-DARTS setting nearest to the defaults: factors count first, then all other parameters."""
    defaults = default_params()

    def distance(setting: Setting) -> tuple[int, int]:
        wrong = {
            name for name, value in setting.params.items() if normal_text(value) != normal_text(defaults.get(name))
        }
        return (len(wrong & set(FACTORS)), len(wrong))

    finished = [s for s in settings if "csc" in s.methods and not s.given and s.values("test_error_pct").size]
    return min(finished, key=distance) if finished else None
