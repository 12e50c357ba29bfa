"""Writes the embedded benchmark in the official NATS-Bench form, which the unmodified `nats_bench` reads."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.embedded.table import FOLDER, card, embedded_table, results
from benchmarks.tabular.space import SIZE, network_classes, official_archs
from benchmarks.tabular.table import Floats
from cscdarts.errors import UserError

#: Name of the data set inside the official form; ask `get_more_info(index, "digits", hp="06", is_random=False)`.
DATASET = "digits"
_SETS = {"valid": "x-valid", "test": "x-test"}


def export(
    out: Path,
    form: Literal["folder", "file"],
    report: Callable[[str], None],
    indices: Iterable[int] | None = None,
    folder: Path = FOLDER,
) -> Path:
    """Write the benchmark as a `-simple` folder (one file an architecture) or as one `.pickle.pbz2` file.

    Args:
        out: the folder to make (`folder`), or the folder to put the file into (`file`).
        indices: official indices to write; all unless given. The list of architectures is always whole.

    Returns:
        What was written: give it to `nats_bench.create(path, "tss", fast_mode=form == "folder")`.

    Errors:
        UserError: the place is taken or cannot be written.
    """
    from nats_bench import pickle_save

    chosen = list(range(SIZE) if indices is None else indices)
    made, values, classes = card(folder), results(folder), network_classes()
    table = embedded_table(folder)
    costs = np.stack([table.columns["digits_params_mb"], table.columns["digits_flops_m"]], axis=1)
    archs = list(official_archs())

    def record(index: int) -> dict[str, Any]:
        return _record(index, archs[index], made, values, int(classes[index]), costs[index])

    try:
        if form == "file":
            out.mkdir(parents=True, exist_ok=True)
            target = out / "NATS-tss-cscdarts-digits"
            content = {
                "meta_archs": archs,
                "total_archs": len(archs),
                "arch2infos": {index: record(index) for index in chosen},
                "evaluated_indexes": chosen,
            }
            pickle_save(content, str(target) + ".pickle")
            return target.with_name(target.name + ".pickle.pbz2")
        if out.exists() and any(out.iterdir()):
            raise UserError("--out", str(out), "a new or empty folder", "Name another one.")
        out.mkdir(parents=True, exist_ok=True)
        pickle_save({"meta_archs": archs, "total_archs": len(archs)}, str(out / "meta.pickle"))
        for number, index in enumerate(chosen, start=1):
            pickle_save(record(index), str(out / f"{index:06d}.pickle"))
            if number % 2000 == 0 or number == len(chosen):
                report(f"{number} of {len(chosen)} architectures written")
        return out
    except OSError as error:
        raise UserError("--out", str(out), "a folder that can be written", str(error.strerror or error)) from None


def _record(
    index: int, arch: str, made: Mapping[str, Any], values: Mapping[str, Floats], number: int, cost: Floats
) -> dict[str, Any]:
    """The state of the official `ArchResults`, by training length. Only the last epoch was evaluated, and no times were taken."""
    epochs, images = int(made["protocol"]["epochs"]), made["images"]
    last = epochs - 1

    def accuracy(part: str, seed: int) -> float:
        return 100.0 * float(values[f"{part}_correct_{seed}"][number]) / float(images[part])

    def loss(part: str, seed: int) -> float:
        return float(values[f"{part}_loss_{seed}"][number])

    trials = {
        (DATASET, seed): {
            "name": DATASET,
            "net_state_dict": None,
            "train_acc1es": {last: accuracy("train", seed)},
            "train_acc5es": None,
            "train_losses": {last: loss("train", seed)},
            "train_times": None,
            "arch_config": {
                "channel": made["protocol"]["channels"],
                "num_cells": 1,
                "arch_str": arch,
                "class_num": 10,
            },
            "params": float(cost[0]),
            "flop": float(cost[1]),
            "seed": f"{seed:04d}",
            "epochs": epochs,
            "latency": None,
            "eval_names": list(_SETS.values()),
            "eval_acc1es": {f"{name}@{last}": accuracy(part, seed) for part, name in _SETS.items()},
            "eval_times": {},
            "eval_losses": {f"{name}@{last}": loss(part, seed) for part, name in _SETS.items()},
        }
        for seed in made["seeds"]
    }
    state = {
        "arch_index": index,
        "arch_str": arch,
        "all_results": trials,
        "dataset_seed": {DATASET: list(made["seeds"])},
        "clear_net_done": True,
    }
    return {f"{epochs:02d}": state}
