"""What the adaptors over the two official packages share: one safe set of defaults over the official answers.

Traps of the packages, closed here:

* `is_random=True` is their default and answers with a random trial: here it is the mean, or the trial whose seed you name;
* `hp` is a string and defaults to "12": here `epochs` is a number and has to be one of those present;
* an unknown string becomes index -1, and a NumPy integer too: here every architecture is resolved and checked first;
* `find_best` names its limits differently (`flop_max`, `FLOP_max`): here `flops_max_m` and `params_max_m`;
* paths may be `pathlib` paths;
* isomorphic cells were trained apart and have different scores: `isomorphic` lists them.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cscdarts.errors import UserError
from cscdarts.genotype import CellGenotype

#: (data set as we name it, split) -> (official data set, official set). CIFAR-10's validation half has a training of its own.
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

#: What to fetch, by form: (file, size, page). Sizes are those the project pages state.
PROJECT_PAGES = {
    "nats": (
        "NATS-tss-v1_0-3ffb9-simple.tar, unpacked (about 1 GB packed), or NATS-tss-v1_0-3ffb9.pickle.pbz2",
        "github.com/D-X-Y/NATS-Bench, section 'Preparation and Download'",
    ),
    "nasbench201": (
        "NAS-Bench-201-v1_1-096897.pth (4.7 GB)",
        "github.com/D-X-Y/NAS-Bench-201, section 'Preparation and Download'",
    ),
}

Arch = int | str | CellGenotype


def missing(form: str, path: Path) -> UserError:
    """Says what to download, from which page, how large it is and where to put it."""
    what, page = PROJECT_PAGES[form]
    return UserError(
        "--benchmark",
        f"{form}:{path}",
        f"a path that holds {what}",
        f"Nothing is there: download it from {page} and put it at {path}, or name another path.",
    )


def wrong_content(path: Path | str, found: str, allowed: str) -> UserError:
    """Says that a file is readable but no record of this benchmark."""
    return UserError(
        "--benchmark", f"{path} ({found})", allowed, "Give the archive of the right search space, unchanged."
    )


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
        """Drop the official object of a record from memory; the next query makes it anew."""
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
        seeds = self._seeds(arch, dataset, epochs, trial)
        which = False if trial is None else trial
        assert seeds
        return dict(self.api.get_more_info(self.index(arch), dataset, hp=_hp(epochs), is_random=which))

    def metrics(
        self, arch: Arch, dataset: str, split: Literal["valid", "test"], epochs: int = 200, trial: int | None = None
    ) -> dict[str, Any]:
        """The official `get_metrics` (accuracy, loss, times) by our names for data set and split."""
        official, part = OFFICIAL_SETS[dataset, split]
        self._seeds(arch, official, epochs, trial)
        return dict(self.results(arch, epochs).get_metrics(official, part, is_random=False if trial is None else trial))

    def cost(self, arch: Arch, dataset: str, epochs: int = 200) -> dict[str, Any]:
        """The official `get_cost_info`: params (millions, officially "MB"), flops (M), latency and times (s)."""
        self._seeds(arch, dataset, epochs, None)
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

    def _seeds(self, arch: Arch, dataset: str, epochs: int, trial: int | None) -> tuple[int, ...]:
        found = self.results(arch, epochs).dataset_seed
        if dataset not in found:
            raise UserError("dataset", dataset, ", ".join(found), "The record holds these data sets.")
        if trial is not None and trial not in found[dataset]:
            raise UserError("trial", trial, ", ".join(map(str, found[dataset])), "Name one of these seeds.")
        return tuple(found[dataset])


def _hp(epochs: int) -> str:
    """The official spelling of a training length: "01", "12", "90", "200"."""
    return f"{epochs:02d}"


def checked_record(record: Any, path: Path | str) -> dict[str, Any]:
    """The record of one architecture if it has the official shape: length -> state of `ArchResults`.

    Errors:
        UserError: another shape.
    """
    allowed = "a record of one architecture: training length, then results by data set and seed"
    if not isinstance(record, dict) or not record:
        raise wrong_content(path, type(record).__name__, allowed)
    for length, state in record.items():
        if not (isinstance(length, str) and length.isdigit()):
            raise wrong_content(path, f"key {str(length)[:20]!r}", allowed)
        if not isinstance(state, dict) or set(state) != {
            "arch_index", "arch_str", "all_results", "dataset_seed", "clear_net_done",
        }:  # fmt: skip
            raise wrong_content(path, f"length {length} without results", allowed)
        results, seeds = state["all_results"], state["dataset_seed"]
        if not (isinstance(results, dict) and isinstance(seeds, dict)):
            raise wrong_content(path, f"length {length} without results", allowed)
        for dataset, trials in seeds.items():
            for seed in trials:
                if not _is_trial(results.get((dataset, seed))):
                    raise wrong_content(path, f"no whole trial {seed} on {dataset}", allowed)
    return record


_TRIAL_KEYS = frozenset(
    [
        "name",
        "net_state_dict",
        "train_acc1es",
        "train_acc5es",
        "train_losses",
        "train_times",
        "arch_config",
        "params",
        "flop",
        "seed",
        "epochs",
        "latency",
        "eval_names",
        "eval_acc1es",
        "eval_times",
        "eval_losses",
    ]
)


def _is_trial(trial: Any) -> bool:
    return isinstance(trial, dict) and set(trial) == _TRIAL_KEYS and isinstance(trial["epochs"], int)


def checksum(path: Path) -> dict[str, str]:
    """SHA-256 of a file, and whether its MD5 agrees with the digits that official file names carry.

    The project pages publish no other checksum, and do not say which end of the MD5 the digits are; either counts. Where
    they disagree this is stated, not refused: a renamed or re-packed file may still hold the right records.
    """
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha.update(block)
            md5.update(block)
    stated = re.fullmatch(
        r"(?:NATS-[ts]ss-v1_0|NAS-Bench-201-v1_[01])-([0-9a-f]{5,6})\.(?:pickle\.pbz2|pth)", path.name
    )
    digest = md5.hexdigest()
    if stated is None:
        verdict = "none published for this file"
    elif digest.startswith(stated[1]) or digest.endswith(stated[1]):
        verdict = f"MD5 {digest} agrees with {stated[1]} in the official name"
    else:
        verdict = f"MD5 {digest} does not agree with {stated[1]} in the official name"
    return {"sha256": sha.hexdigest(), "sha256_of": path.name, "checksum": verdict}
