"""Writes benchmarks in the official NATS-Bench form, which the unmodified `nats_bench` reads: the embedded one, or
given records."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.embedded.table import FOLDER, card, embedded_table, results
from benchmarks.tabular.space import SIZE, network_classes, official_archs
from benchmarks.tabular.table import Floats
from cscdarts.errors import CannotWrite, UserError

#: Name of the data set inside the official form; ask `get_more_info(index, "digits", hp="06", is_random=False)`.
DATASET = "digits"
_SETS = {"valid": "x-valid", "test": "x-test"}

Form = Literal["folder", "file"]


def export(
    out: Path,
    form: Form,
    report: Callable[[str], None],
    indices: Iterable[int] | None = None,
    folder: Path = FOLDER,
    advance: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Path:
    """Write the embedded benchmark; see `write_official`.

    Args:
        indices: official indices to write; all unless given. The list of architectures is always whole.
        folder: where the embedded benchmark lies.
        advance: told after each cell what is written, how many of them are, and of how many.
    """
    chosen = list(range(SIZE) if indices is None else indices)
    made, values, classes = card(folder), results(folder), network_classes()
    table = embedded_table(folder)
    costs = np.stack([table.columns["digits_params_mb"], table.columns["digits_flops_m"]], axis=1)
    archs = official_archs()

    def records() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, index in enumerate(chosen, start=1):
            yield index, _record(index, archs[index], made, values, int(classes[index]), costs[index])
            advance("cells written", number, len(chosen))

    return write_official(out, form, archs, records(), report, "NATS-tss-cscdarts-digits")


def write_official(
    out: Path,
    form: Form,
    archs: Sequence[str],
    records: Iterable[tuple[int, Mapping[str, Any]]],
    report: Callable[[str], None],
    name: str,
) -> Path:
    """Write records as a `-simple` folder (one file per architecture) or as one `.pickle.pbz2` file.

    Args:
        out: the folder to make (`folder`), or the folder to put the file into (`file`).
        archs: every architecture of the space in official order.
        records: (official index, training length -> `arch_state`).
        report: told how far it is.
        name: of the single file, without suffix.

    Returns:
        What was written: give it to `nats_bench.create(path, "tss", fast_mode=form == "folder")`.

    Errors:
        UserError: the place is taken or cannot be written.
    """
    from nats_bench import pickle_save

    meta = {"meta_archs": list(archs), "total_archs": len(archs)}
    try:
        if form == "file":
            out.mkdir(parents=True, exist_ok=True)
            content = dict(_counted(records, report))
            whole = {**meta, "arch2infos": content, "evaluated_indexes": list(content)}
            pickle_save(whole, str(out / f"{name}.pickle"))
            return out / f"{name}.pickle.pbz2"
        if out.exists() and any(out.iterdir()):
            raise UserError("--out", str(out), "a new or empty folder", "Name another one.")
        out.mkdir(parents=True, exist_ok=True)
        pickle_save(meta, str(out / "meta.pickle"))
        for index, record in _counted(records, report):
            pickle_save(record, str(out / f"{index:06d}.pickle"))
        return out
    except OSError as error:
        raise CannotWrite("--out", str(out), error) from None


def _counted(
    records: Iterable[tuple[int, Mapping[str, Any]]], report: Callable[[str], None]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    for number, pair in enumerate(records, start=1):
        yield pair
        if number % 2000 == 0:
            report(f"{number} architectures written")
    report(f"{number} architectures written, all")


def arch_state(index: int, arch: str, trials: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    """The state of the official `ArchResults` for one training length.

    Args:
        trials: (data set, seed) -> the state of the official `ResultsCount`.
    """
    seeds: dict[str, list[int]] = {}
    for dataset, seed in trials:
        seeds.setdefault(dataset, []).append(seed)
    return {
        "arch_index": index,
        "arch_str": arch,
        "all_results": dict(trials),
        "dataset_seed": seeds,
        "clear_net_done": True,
    }


def _record(
    index: int, arch: str, made: Mapping[str, Any], values: Mapping[str, Floats], number: int, cost: Floats
) -> dict[str, Any]:
    """The state of the official `ArchResults`, by training length. Only the last epoch was evaluated, and no times were
    taken."""
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
    return {f"{epochs:02d}": arch_state(index, arch, trials)}
