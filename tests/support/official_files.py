"""Files in the official forms with invented numbers, written by our own export: what the adaptors and the index are
tested on.

Three architectures, the four official data sets, two training lengths with the official seeds, whole curves and times,
and NumPy scalars where the real records have them; every number follows from the formulas below, so a test knows it.
"""

import csv
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded.nats_form import arch_state, write_official
from benchmarks.tabular.space import SIZE, official_archs

HELD = (0, 11, 284)
#: Training length -> official data set -> seeds of its trials.
SEEDS: Mapping[int, Mapping[str, tuple[int, ...]]] = {
    12: {"cifar10-valid": (111, 777), "cifar10": (111,), "cifar100": (111,), "ImageNet16-120": (111,)},
    200: dict.fromkeys(("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120"), (777, 888, 999)),
}
#: Official data set -> the parts it was evaluated on.
PARTS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("ori-test", "x-valid", "x-test"),
    "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
}
#: Architecture -> (parameters in millions, multiply-adds in millions), (seconds of an epoch, of an evaluation) on
#: CIFAR-10.
COSTS = {0: (0.1, 15.6), 11: (0.8, 113.9), 284: (0.3, 48.2)}
TIMES = {0: (10.0, 1.0), 11: (25.0, 1.5), 284: (15.0, 1.25)}
#: Official data set -> share of an epoch's seconds; (data set, part) -> share of an evaluation's, as in the real
#: records.
TRAIN_SHARE = {"cifar10-valid": 0.5, "cifar10": 1.0, "cifar100": 1.0, "ImageNet16-120": 3.034}
EVALUATION_SHARE = {("cifar10-valid", "x-valid"): 2.5, ("cifar100", "x-valid"): 0.5, ("ImageNet16-120", "x-valid"): 0.3}


def accuracy(index: int, dataset: str, part: str, epochs: int, seed: int) -> float:
    """One trial's accuracy in percent after its last epoch: different for any two arguments."""
    place = list(PARTS).index(dataset) * 10 + PARTS[dataset].index(part)
    return (
        20.0 + 15 * HELD.index(index) + 0.5 * place + 0.1 * epochs / 10 + 0.001 * (seed % 111) + 0.0001 * (seed // 111)
    )


def mean_accuracy(index: int, dataset: str, part: str, epochs: int) -> float:
    """The mean over the trials."""
    seeds = SEEDS[epochs][dataset]
    return sum(accuracy(index, dataset, part, epochs, seed) for seed in seeds) / len(seeds)


def trial(index: int, dataset: str, epochs: int, seed: int) -> dict[str, Any]:
    """The state of one official `ResultsCount`: accuracies rise by a hundredth of a point an epoch."""
    params, macs = COSTS[index]
    train_s, evaluation_s = TIMES[index]

    def curve(part: str) -> list[float]:
        last = accuracy(index, dataset, part, epochs, seed)
        return [last - 0.01 * (epochs - 1 - epoch) for epoch in range(epochs)]

    def by_part(values: Mapping[str, list[float]]) -> dict[str, float]:
        return {f"{part}@{epoch}": value for part, column in values.items() for epoch, value in enumerate(column)}

    first = PARTS[dataset][0]
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": dict(enumerate(value + 3 for value in curve(first))),
        "train_acc5es": dict(enumerate(value + 4 for value in curve(first))),
        "train_losses": {epoch: 2.0 / (epoch + 1) for epoch in range(epochs)},
        "train_times": OrderedDict((epoch, np.float64(TRAIN_SHARE[dataset] * train_s)) for epoch in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": official_archs()[index], "class_num": 10},
        "params": np.float64(params),
        "flop": macs,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "latency": [np.float64(0.0125)],
        "eval_names": list(PARTS[dataset]),
        "eval_acc1es": by_part({part: curve(part) for part in PARTS[dataset]}),
        "eval_times": by_part(
            {part: [EVALUATION_SHARE.get((dataset, part), 1.0) * evaluation_s] * epochs for part in PARTS[dataset]}
        ),
        "eval_losses": by_part({part: [1.0 + 1 / (epoch + 1) for epoch in range(epochs)] for part in PARTS[dataset]}),
    }


def record(index: int, seeds: Mapping[int, Mapping[str, tuple[int, ...]]] = SEEDS, arch: str = "") -> dict[str, Any]:
    """One architecture: training length -> official state."""
    return {
        f"{epochs:02d}": arch_state(
            index,
            arch or official_archs()[index],
            {(name, seed): trial(index, name, epochs, seed) for name, own in by_dataset.items() for seed in own},
        )
        for epochs, by_dataset in seeds.items()
    }


@dataclass(frozen=True)
class OfficialFiles:
    """The same records in every official form.

    Attributes:
        folder: NATS-Bench, `-simple`. file: NATS-Bench, one file. pth: NAS-Bench-201.
        size_space: NATS-Bench's other space, `-simple`.
        table: a CSV of all 15,625 cells that agrees with the records where they are, and is invented elsewhere.
    """

    folder: Path
    file: Path
    pth: Path
    size_space: Path
    table: Path


def write_files(place: Path) -> OfficialFiles:
    """Write all forms below a folder."""
    import torch

    records = {index: record(index) for index in HELD}
    torch_home = place / "torch"
    folder = torch_home / "NATS-tss-v1_0-invented-simple"
    write_official(folder, "folder", official_archs(), records.items(), _quiet, "")
    file = write_official(place / "single", "file", official_archs(), records.items(), _quiet, "three")
    pth = place / "NAS-Bench-201-three.pth"
    by_length = {index: {"less": found["12"], "full": found["200"]} for index, found in records.items()}
    content = {"meta_archs": list(official_archs()), "arch2infos": by_length, "evaluated_indexes": list(HELD)}
    torch.save(content, pth)
    sizes = [":".join(map(str, row)) for row in itertools.product((8, 16, 24, 32, 40, 48, 56, 64), repeat=5)]
    lengths = {epochs: dict.fromkeys(PARTS, (777,)) for epochs in (1, 12, 90)}
    size_space = place / "NATS-sss-v1_0-invented-simple"
    of_sizes = ((index, record(index, lengths, sizes[index])) for index in HELD)
    write_official(size_space, "folder", sizes, of_sizes, _quiet, "")
    return OfficialFiles(folder, file, pth, size_space, write_table(place / "table.csv"))


def write_table(path: Path) -> Path:
    """A CSV with accuracies of every cell; times are measured for the first thousand, estimates for the others."""
    draw = np.random.default_rng(7)
    official = {
        "cifar10_valid": ("cifar10-valid", "x-valid"),
        "cifar10_test": ("cifar10", "ori-test"),
        "cifar100_valid": ("cifar100", "x-valid"),
        "cifar100_test": ("cifar100", "x-test"),
        "imagenet16_valid": ("ImageNet16-120", "x-valid"),
        "imagenet16_test": ("ImageNet16-120", "x-test"),
    }
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for name, (dataset, part) in official.items():
        for epochs in (12, 200):
            values = draw.uniform(10, 60, SIZE)
            for index in HELD:
                values[index] = mean_accuracy(index, dataset, part, epochs)
            columns[f"{name}_acc_{epochs}"] = values
    train, test = draw.uniform(5, 30, SIZE), draw.uniform(1, 2, SIZE)
    for index in HELD:
        train[index], test[index] = TIMES[index]
    columns["cifar10_train_s_per_epoch"], columns["cifar10_test_s_per_epoch"] = train, test
    columns["times_measured"] = (np.arange(SIZE) < 1000).astype(int)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "arch_str", *columns])
        rows = zip(*(np.round(column, 6).tolist() for column in columns.values()), strict=True)
        writer.writerows([index, official_archs()[index], *row] for index, row in enumerate(rows))
    return path


def _quiet(line: str) -> None:
    pass
