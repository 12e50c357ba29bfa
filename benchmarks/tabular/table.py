"""One benchmark as arrays over the whole space: what is looked up, ranked and compared. No torch.

Columns: `{data}_{valid|test}_acc_{epochs}` is the mean over an architecture's trials, the same with `_{seed}` one
trial; `{data}_params_mb`, `{data}_flops_m`, `{data}_latency_ms`; `{data}_query_s_{epochs}` the seconds of training and
one validation that the benchmark itself counts for a query.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.tabular.space import SIZE, official_archs, official_index, official_indices
from cscdarts.errors import UserError
from cscdarts.spaces import CellGenotype

Floats = npt.NDArray[np.float64]
Split = Literal["valid", "test"]

#: Data set as named in commands and records -> prefix of its columns.
PREFIX = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "imagenet16", "digits": "digits"}
COLUMN = re.compile(
    r"(?P<data>cifar100|cifar10|imagenet16|digits)_"
    r"((?P<split>valid|test)_acc_(?P<epochs>\d+)(_(?P<seed>\d+))?|query_s_(?P<query>\d+)|params_mb|flops_m|latency_ms)"
)


@dataclass(frozen=True)
class BenchmarkTable:
    """A benchmark of the NAS-Bench-201 space.

    Attributes:
        columns: name -> values by official index, shape (15625,), NaN where the benchmark has none.
        provenance: where it comes from: source file, hash, package and version, protocol.
    """

    columns: Mapping[str, Floats]
    provenance: Mapping[str, Any]

    @cached_property
    def held(self) -> npt.NDArray[np.bool_]:
        """Which architectures the benchmark has an accuracy of, shape (15625,)."""
        held = np.zeros(SIZE, dtype=np.bool_)
        for name, values in self.columns.items():
            if "_acc_" in name:
                held |= np.isfinite(values)
        return held

    @property
    def holds(self) -> int:
        """How many of the 15,625 architectures the benchmark holds."""
        return int(self.held.sum())

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """The data sets it has accuracies on."""
        present = {match["data"] for match in map(COLUMN.fullmatch, self.columns) if match and match["split"]}
        return tuple(name for name, prefix in PREFIX.items() if prefix in present)

    def epochs(self, dataset: str) -> tuple[int, ...]:
        """The training lengths (the official `hp`) it has for a data set, longest first: separate trainings, not one
        cut short."""
        found = {
            int(match["epochs"])
            for match in map(COLUMN.fullmatch, self.columns)
            if match and match["split"] and match["data"] == PREFIX[dataset]
        }
        return tuple(sorted(found, reverse=True))

    def trials(self, dataset: str, epochs: int) -> tuple[int, ...]:
        """Seeds of the single trials it has, () where it has only means."""
        found = {
            int(match["seed"])
            for match in map(COLUMN.fullmatch, self.columns)
            if match and match["seed"] and match["data"] == PREFIX[dataset] and int(match["epochs"]) == epochs
        }
        return tuple(sorted(found))

    def resolve(self, dataset: str, epochs: int | None = None) -> int:
        """The training length to use: as asked, or the longest there is.

        Errors:
            UserError: the benchmark has no such data set or length.
        """
        if dataset not in self.datasets:
            raise UserError("--dataset", dataset, ", ".join(self.datasets), "Choose one that this benchmark holds.")
        lengths = self.epochs(dataset)
        if epochs is not None and epochs not in lengths:
            raise UserError("--epochs", epochs, ", ".join(map(str, lengths)), f"{dataset} was trained for these only.")
        return lengths[0] if epochs is None else epochs

    def accuracy(self, dataset: str, split: Split, epochs: int | None = None, trial: int | None = None) -> Floats:
        """Top-1 accuracy in percent by official index, shape (15625,).

        Args:
            epochs: training length; the longest unless given.
            trial: seed of one trial; the mean over all trials unless given. Never a random one.

        Errors:
            UserError: the benchmark does not hold this.
        """
        length = self.resolve(dataset, epochs)
        name = f"{PREFIX[dataset]}_{split}_acc_{length}"
        if trial is not None:
            if f"{name}_{trial}" not in self.columns:
                seeds = ", ".join(map(str, self.trials(dataset, length)))
                raise UserError("--trial", trial, seeds or "mean (this benchmark has no single trials)", "Choose one.")
            name = f"{name}_{trial}"
        return self.columns.get(name, np.full(SIZE, np.nan))

    def ranked_by(self, dataset: str, epochs: int | None = None) -> Split:
        """By which accuracy cells are ranked: test, or validation where the benchmark has no test accuracy."""
        return "test" if np.isfinite(self.accuracy(dataset, "test", epochs)).any() else "valid"

    def look_up(
        self, archs: Iterable[str], dataset: str, split: Split, epochs: int | None = None, trial: int | None = None
    ) -> Floats:
        """Accuracies of many architectures at once, shape (len(archs),)."""
        return self.accuracy(dataset, split, epochs, trial)[official_indices(archs)]

    def query_cost_s(self, dataset: str, epochs: int | None = None) -> Floats:
        """Seconds that the benchmark counts for training and validating each architecture, (15625,); NaN where
        unknown."""
        name = f"{PREFIX[dataset]}_query_s_{self.resolve(dataset, epochs)}"
        return self.columns.get(name, np.full(SIZE, np.nan))

    def index(self, arch: str | int | CellGenotype) -> int:
        """The official index of an architecture that the benchmark holds.

        Errors:
            UserError: no cell of the space, an index out of range, or not among those held.
        """
        index = arch if isinstance(arch, int) else official_index(arch)
        if not 0 <= index < SIZE:
            raise UserError("architecture", index, f"an index from 0 to {SIZE - 1}", "Give an official index.")
        if not self.held[index]:
            raise UserError(
                "architecture",
                official_archs()[index],
                f"one of the {self.holds} of {SIZE} architectures that this benchmark holds",
                "Give the full benchmark.",
            )
        return index


def rank(values: Floats, value: float) -> int:
    """1 + how many of the held values are strictly better; equal values share the better rank."""
    return 1 + int((values > value).sum())


def percentile(values: Floats, value: float) -> float:
    """Share in percent of the held values that are not better than this one: 100 for the best."""
    finite = values[np.isfinite(values)]
    return 100.0 * float((finite <= value).sum()) / len(finite)


def regret(values: Floats, value: float) -> float:
    """How many points below the best held value, at least 0."""
    return float(np.nanmax(values)) - value
