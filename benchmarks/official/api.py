"""What the adaptors over the two official packages share: one safe set of defaults over the official answers.

Traps of the packages, closed here:

* `is_random=True` is their default and answers with a random trial: here it is the mean, or the trial whose seed you
  name;
* `hp` is a string and defaults to "12": here `epochs` is a number and has to be one of those present;
* an unknown string becomes index -1, and a NumPy integer too: here every architecture is resolved and checked first;
* `find_best` names its limits differently (`flop_max`, `FLOP_max`): here `flops_max_m` and `params_max_m`;
* `nats_bench` takes no `pathlib` path: here both kinds are paths;
* isomorphic cells were trained apart and have different scores: `isomorphic` lists them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cscdarts.errors import UserError
from cscdarts.spaces import CellGenotype

#: (data set as we name it, split) -> (official data set, official set). CIFAR-10's validation half has a training of
#: its own.
OFFICIAL_SETS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("cifar10", "valid"): ("cifar10-valid", "x-valid"),
    ("cifar10", "test"): ("cifar10", "ori-test"),
    ("cifar100", "valid"): ("cifar100", "x-valid"),
    ("cifar100", "test"): ("cifar100", "x-test"),
    ("imagenet16-120", "valid"): ("ImageNet16-120", "x-valid"),
    ("imagenet16-120", "test"): ("ImageNet16-120", "x-test"),
    ("digits", "valid"): ("digits", "x-valid"),
    ("digits", "test"): ("digits", "x-test"),
}

Arch = int | str | CellGenotype


class OfficialBenchmark(ABC):
    """An unmodified official API with its files opened safely.

    Attributes:
        api: the official object (`NATStopology`, `NATSsize` or `NASBench201API`). Ask it directly only with `hp` and
            `is_random` spelled out.
        provenance: source path, package and version, hash of the source and whether that hash is a published one.
    """

    api: Any
    provenance: dict[str, Any]

    @cached_property
    @abstractmethod
    def held(self) -> tuple[int, ...]:
        """Indices of the architectures that the files hold, ascending."""

    @abstractmethod
    def _prepare(self, index: int) -> None:
        """Make the record of an architecture known to `api`."""

    def forget(self, index: int) -> None:
        """Drop the official object of a record from memory; the next query makes it again."""
        self.api.arch2infos_dict.pop(index, None)

    def index(self, arch: Arch) -> int:
        """The official index of an architecture given as index, string or genotype.

        Errors:
            UserError: it is not in the space, or the files hold no record of it.
        """
        if isinstance(arch, int | np.integer) and not isinstance(arch, bool):
            index = int(arch) if 0 <= arch < len(self.api) else -1
        else:
            index = int(self.api.query_index_by_arch(str(arch)))
        if index < 0:
            raise UserError(
                "architecture",
                str(arch)[:80],
                f"a string of the search space such as {self.api.arch(0)}, or an index from 0 to {len(self.api) - 1}",
                "Copy the whole string.",
            )
        if index not in self._held_set:
            raise UserError(
                "architecture",
                str(arch)[:80],
                f"one of the {len(self.held)} of {len(self.api)} architectures these files hold",
                "Take the full archive from the project page.",
            )
        return index

    @cached_property
    def _held_set(self) -> frozenset[int]:
        return frozenset(self.held)

    def arch(self, index: int) -> str:
        """The architecture string at an index."""
        return str(self.api.arch(index))

    def results(self, arch: Arch, epochs: int) -> Any:
        """The official `ArchResults` of one training length.

        Errors:
            UserError: no record, or none of this length.
        """
        index = self.index(arch)
        self._prepare(index)
        lengths = self.api.arch2infos_dict[index]
        if _hp(epochs) not in lengths:
            known = ", ".join(sorted(lengths, key=int))
            raise UserError("--epochs", epochs, known, "The benchmark was trained for these lengths only.")
        return lengths[_hp(epochs)]

    def epochs(self, arch: Arch) -> tuple[int, ...]:
        """The training lengths an architecture's record has, ascending."""
        index = self.index(arch)
        self._prepare(index)
        return tuple(sorted(int(hp) for hp in self.api.arch2infos_dict[index]))

    def seeds(self, arch: Arch, dataset: str, epochs: int) -> tuple[int, ...]:
        """Seeds of the trials on an official data set, () where there are none."""
        return tuple(self.results(arch, epochs).dataset_seed.get(dataset, ()))

    def info(self, arch: Arch, dataset: str, epochs: int = 200, trial: int | None = None) -> dict[str, Any]:
        """The official `get_more_info`: losses, accuracies and times after the last epoch.

        Args:
            dataset: official name: `cifar10-valid`, `cifar10`, `cifar100`, `ImageNet16-120`.
            trial: seed of one trial; the mean of all unless given.

        Errors:
            UserError: no such architecture, data set, length or trial.
        """
        self._require(arch, dataset, epochs, trial)
        which = False if trial is None else trial
        return dict(self.api.get_more_info(self.index(arch), dataset, hp=_hp(epochs), is_random=which))

    def metrics(
        self, arch: Arch, dataset: str, split: Literal["valid", "test"], epochs: int = 200, trial: int | None = None
    ) -> dict[str, Any]:
        """The official `get_metrics` (accuracy, loss, times) by our names for data set and split."""
        official, part = OFFICIAL_SETS[dataset, split]
        self._require(arch, official, epochs, trial)
        return dict(self.results(arch, epochs).get_metrics(official, part, is_random=False if trial is None else trial))

    def cost(self, arch: Arch, dataset: str, epochs: int = 200) -> dict[str, Any]:
        """The official `get_cost_info`: params (millions, officially "MB"), flops (M), latency and times (s)."""
        self._require(arch, dataset, epochs, None)
        return dict(self.api.get_cost_info(self.index(arch), dataset, hp=_hp(epochs)))

    def find_best(
        self,
        dataset: str,
        split: Literal["valid", "test"],
        epochs: int = 200,
        flops_max_m: float | None = None,
        params_max_m: float | None = None,
    ) -> tuple[int, float]:
        """(index, accuracy) of the best held architecture within the limits, by the mean over trials.

        Errors:
            UserError: none is within the limits.
        """
        official, _ = OFFICIAL_SETS[dataset, split]
        best: tuple[int, float] | None = None
        for index in self.held:
            cost = self.cost(index, official, epochs)
            if flops_max_m is not None and cost["flops"] > flops_max_m:
                continue
            if params_max_m is not None and cost["params"] > params_max_m:
                continue
            accuracy = float(self.metrics(index, dataset, split, epochs)["accuracy"])
            if best is None or accuracy > best[1]:
                best = (index, accuracy)
        if best is None:
            raise UserError("flops_max_m", flops_max_m, "a limit that some architecture meets", "Raise the limits.")
        return best

    def isomorphic(self, arch: Arch) -> tuple[int, ...]:
        """Held architectures that the official package calls the same network, this one among them (topology space)."""
        if not hasattr(self.api, "get_unique_str"):
            return (self.index(arch),)
        unique = self.api.get_unique_str(self.index(arch))
        return tuple(index for index in self.held if self.api.get_unique_str(index) == unique)

    def _require(self, arch: Arch, dataset: str, epochs: int, trial: int | None) -> None:
        found = self.results(arch, epochs).dataset_seed
        if dataset not in found:
            raise UserError("dataset", dataset, ", ".join(found), "The record holds these data sets.")
        if trial is not None and trial not in found[dataset]:
            raise UserError("trial", trial, ", ".join(map(str, found[dataset])), "Name one of these seeds.")


def _hp(epochs: int) -> str:
    """The official spelling of a training length: "01", "12", "90", "200"."""
    return f"{epochs:02d}"
