"""The embedded exhaustive benchmark: all 15,625 cells on digits, shipped with the package. No torch.

`embedded/digits.parquet` has one row per class of the 5,044 classes of equal networks: correct images and mean cross
entropy by part and seed; `space.network_classes` gives the class at each official index. `embedded/README.md` is the
data card.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded.training_recipe import KERNELS, Skeleton
from benchmarks.tabular.index import read_columns
from benchmarks.tabular.space import POWERS, SIZE, network_classes, official_codes
from benchmarks.tabular.table import BenchmarkTable, Floats
from cscdarts.errors import UserError
from cscdarts.spaces import NASBENCH201

FOLDER = Path(__file__).parent
RESULTS, CARD = "digits.parquet", "digits.json"
PARTS = ("train", "valid", "test")


def card(folder: Path = FOLDER) -> dict[str, Any]:
    """How the benchmark was made and what its noise is: the content of `digits.json`."""
    content: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return content


def results(folder: Path = FOLDER) -> dict[str, Floats]:
    """The columns `{part}_{correct|loss}_{seed}` by class, shape (classes,)."""
    columns, _ = read_columns(folder / RESULTS)
    return columns


@cache
def embedded_table(folder: Path = FOLDER) -> BenchmarkTable:
    """The embedded benchmark as a table with the data set `digits`.

    Errors:
        UserError: the package's data files are missing or broken.
    """
    if not (folder / RESULTS).is_file():
        raise UserError(
            "--benchmark",
            "embedded",
            "the data files of the package",
            "Install it again or run `cscdarts benchmark build`.",
        )
    made, values, classes = card(folder), results(folder), network_classes()
    epochs, seeds = made["protocol"]["epochs"], made["seeds"]
    columns: dict[str, Floats] = {}
    for part in ("valid", "test"):
        trials = []
        for seed in seeds:
            accuracy = 100.0 * values[f"{part}_correct_{seed}"] / made["images"][part]
            trials.append(accuracy[classes])
            columns[f"digits_{part}_acc_{epochs}_{seed}"] = trials[-1]
        columns[f"digits_{part}_acc_{epochs}"] = np.mean(trials, axis=0)
    columns["digits_params_mb"], columns["digits_flops_m"] = costs(Skeleton(channels=made["protocol"]["channels"]))
    return BenchmarkTable(
        columns,
        {
            "kind": "embedded",
            "name": "digits, exhaustive",
            "source": RESULTS,
            **{k: made[k] for k in ("data", "protocol", "seeds")},
        },
    )


def costs(skeleton: Skeleton) -> tuple[Floats, Floats]:
    """(parameters, multiply-adds) in millions by official index, shape (15625,) each."""
    digits = official_codes()[:, None] // POWERS % len(NASBENCH201.ops)
    base = np.array(skeleton.cost(()))
    total = np.tile(base, (SIZE, 1))
    for op in KERNELS:
        added = np.array(skeleton.cost((op,))) - base
        total += (digits == NASBENCH201.ops.index(op)).sum(1)[:, None] * added
    return total[:, 0], total[:, 1]
