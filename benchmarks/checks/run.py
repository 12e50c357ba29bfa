"""What a benchmark says of a cell or a run: accuracy, rank, regret, trajectory, supernet's agreement, baselines.

The benchmark's cells have no identity connection and no channel split: a look-up tests only what the search side found.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checks.baselines import random_search, regularised_evolution
from benchmarks.checks.cell import arch_of, dataset_entry, describe_cell, identity_as_edge, json_number
from benchmarks.checks.predicted import predict_cell, predict_run, require_predictable
from benchmarks.sources import open_table, predicts, surrogate
from benchmarks.tabular.space import official_arch, official_archs, read_cell
from benchmarks.tabular.table import BenchmarkTable, Floats
from cscdarts.errors import MissingFile, UserError
from cscdarts.records.genotype_source import existing_path, read_genotype
from cscdarts.records.ownership import require_own
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import SPACES
from cscdarts.training.derivation import genotype_of_line

#: Repeats and longest run of the baselines on the table.
REPEATS, QUERIES = 500, 200
_SHOWN_QUERIES = (1, 2, 5, 10, 20, 50, 100, 150, 200)
#: Data set of a run -> the benchmark's data set that comes nearest.
_NEAREST = {"digits": "digits", "cifar10": "cifar10", "image-folder": "cifar10", "cifar100": "cifar100"}

Say = Callable[[str], None]


def _silent(line: str) -> None:
    pass


def check(
    what: str,
    benchmark: str = "embedded",
    *,
    epochs: int | None = None,
    trial: int | None = None,
    cells: int | None = 100,
    report: Say = _silent,
) -> dict[str, Any]:
    """Hold an architecture or a run against a benchmark, without writing anything.

    Args:
        what: a run folder, or a cell in any form that `cscdarts.records.genotype_source` reads.
        benchmark: see `benchmarks.sources.open_table`.
        epochs: training length of the benchmark; the longest it has unless given (200 in the official ones).
        trial: seed of one trial; the mean over trials unless given.
        cells: of a run, how many cells to score in its supernet; None for all, 0 for none.

    Returns:
        `arch`, `index`, `datasets` (name -> `valid_acc`, `test_acc`, `rank`, `percentile`, `regret` and more),
        `benchmark` (provenance and how many architectures it `holds`); for a run also what `check_run` writes.

    Errors:
        UserError: no such cell, run or benchmark, the benchmark does not hold the cell, or the folder holds files of
            several runs.
    """
    path = existing_path(what)
    if path is not None and (path / "config.json").exists():
        require_own(RunFolder(path), RunFolder(path).config())
    if predicts(benchmark):
        return _predicted(what, path, benchmark, report)
    table = open_table(benchmark, report)
    if path is not None and (path / "config.json").is_file():
        return describe_run(RunFolder(path), table, epochs=epochs, trial=trial, cells=cells, report=report)
    return describe_cell(table, arch_of(what, report), epochs, trial)


def _predicted(what: str, path: Path | None, benchmark: str, report: Say) -> dict[str, Any]:
    """As `check`, by a surrogate: `predicted` in place of `datasets`; see `benchmarks.checks.predicted`."""
    if path is not None and (path / "config.json").is_file():
        return predict_run(RunFolder(path), surrogate(benchmark))
    reading = read_genotype(what, official_arch)
    for note in reading.notes:
        report(note)
    require_predictable(reading.genotype, benchmark)
    return predict_cell(surrogate(benchmark), reading.genotype)


def check_run(
    folder: RunFolder, benchmark: str = "embedded", cells: int | None = 40, images: int | None = 512
) -> dict[str, Any]:
    """Write a run's `check.json`, and its derived cells' benchmark numbers by epoch into `metrics.jsonl` (stage
    `check`).

    The default sample is small, because every run of a grid pays for it; `check` with more cells looks closer.

    Errors:
        UserError: the run is not in the space of the benchmark, or its search is not done.
    """
    if predicts(benchmark):
        predicted = predict_run(folder, surrogate(benchmark))
        write_json(folder.file("check.json"), predicted)
        return predicted
    found = describe_run(folder, open_table(benchmark), cells=cells, images=images, report=folder.log)
    for entry in found["trajectory"]:
        values = {
            "benchmark_valid_acc_pct": entry["valid_acc"],
            "benchmark_test_acc_pct": entry["test_acc"],
            "benchmark_percentile": entry["percentile"],
            "benchmark_regret_pct": entry["regret"],
        }
        folder.record("check", entry["epoch"], 0, {name: value for name, value in values.items() if value is not None})
    write_json(folder.file("check.json"), found)
    return found


def describe_run(
    folder: RunFolder,
    table: BenchmarkTable,
    *,
    epochs: int | None = None,
    trial: int | None = None,
    cells: int | None = 100,
    images: int | None = None,
    report: Say = _silent,
) -> dict[str, Any]:
    """Everything a table says of one run's derived cells; see `check`. One-shot scores use at most `images` images.

    Adds `primary` (the data set nearest to the run's), `trajectory` (the cell that each epoch's alpha would give),
    `kendall_tau` and `top_k_overlap_pct` between one-shot validation scores in the supernet and the table's validation
    accuracies (`one_shot` holds both), and `baselines` on the same table; where the retrained network adds each cell's
    input to its output, `identity_as_edge` (see there).
    """
    config = folder.config()
    if not SPACES[config.supernet.space].holds(config.supernet.ops or ()):
        raise UserError(
            str(folder.path),
            f"a run in the {config.supernet.space} space with operations {', '.join(config.supernet.ops or ())}",
            "a run in the nasbench201 space with its own operations",
            "Tabular benchmarks hold no other cells.",
        )
    genotype = read_record(folder.file("genotype.json"))
    if genotype is None:
        raise MissingFile(str(folder.path), "Finish its search first.", "genotype.json")
    found = describe_cell(table, str(genotype["text"]), epochs, trial)
    nearest = _NEAREST.get(config.data.searched_dataset, "")
    primary = nearest if nearest in found["datasets"] else next(iter(found["datasets"]))
    found |= {
        "primary": primary,
        "trajectory": _trajectory(table, primary, list(found["datasets"]), folder, config, genotype, epochs, trial),
        "baselines": _baselines(table, primary, found["datasets"][primary], epochs, trial),
        "kendall_tau": None,
        "spearman_rho": None,
        "top_k_overlap_pct": None,
        "one_shot": None,
        "identity_as_edge": None,
    }
    whole = config.supernet.identity_scale == 1 and not config.evaluation.split_eval
    if config.identity_in("eval") == "cell" and whole:
        found["identity_as_edge"] = identity_as_edge(table, found["arch"], epochs, trial)
    if cells != 0 and config.search.trains_supernet:
        left = genotype.get("candidates")
        found |= _supernet_agreement(table, primary, config, folder, (cells, images), epochs, trial, report, left)
    return found


def _trajectory(
    table: BenchmarkTable,
    primary: str,
    datasets: Sequence[str],
    folder: RunFolder,
    config: RunConfig,
    genotype: Mapping[str, Any],
    epochs: int | None,
    trial: int | None,
) -> list[dict[str, Any]]:
    """One entry per epoch; runs without alpha (random ones) have the found cell as only entry."""
    weighting = config.search.weighting
    derived = {int(line["epoch"]): str(genotype_of_line(config.supernet, line, weighting)) for line in folder.alphas()}
    derived = derived or {int(genotype.get("epoch", 0)): str(genotype["text"])}
    entries: dict[str, dict[str, Any]] = {}
    for arch in set(derived.values()):
        index = table.index(arch)
        entries[arch] = {name: dataset_entry(table, name, index, epochs, trial) for name in datasets}
    kept = ("valid_acc", "test_acc", "rank", "percentile", "regret", "query_cost_s")
    return [
        {
            "epoch": epoch,
            "arch": arch,
            "index": table.index(arch),
            **{key: entries[arch][primary][key] for key in kept},
            "datasets": {name: {key: entry[key] for key in kept} for name, entry in entries[arch].items()},
        }
        for epoch, arch in sorted(derived.items())
    ]


def _baselines(
    table: BenchmarkTable, dataset: str, entry: Mapping[str, Any], epochs: int | None, trial: int | None
) -> dict[str, Any]:
    """Mean and deviation of the incumbent's test accuracy over 500 repeats, and how many queries reach this cell's; of
    its validation accuracy where the benchmark has no other."""
    from cscdarts.data.randomness import numpy_generator

    by = table.ranked_by(dataset, epochs)
    reached = entry[f"{by}_acc"]
    valid, test = table.accuracy(dataset, "valid", epochs, trial), table.accuracy(dataset, by, epochs, trial)
    if not (np.isfinite(valid) & np.isfinite(test)).any():
        return {}
    curves = {"random_search": random_search(valid, test, QUERIES, REPEATS, numpy_generator(0, "random search"))}
    if np.isfinite(valid).all() and np.isfinite(test).all():
        curves["regularised_evolution"] = regularised_evolution(
            valid, test, QUERIES, REPEATS, numpy_generator(0, "regularised evolution")
        )
    return {name: _summary(curve, reached) for name, curve in curves.items()}


def _summary(curve: Floats, reached: float | None) -> dict[str, Any]:
    mean = curve.mean(0)
    shown = [count for count in _SHOWN_QUERIES if count <= curve.shape[1]]
    enough = np.flatnonzero(mean >= reached) if reached is not None else np.array([])
    return {
        "repeats": curve.shape[0],
        "queries": shown,
        "test_acc_mean": [json_number(mean[count - 1]) for count in shown],
        "test_acc_sd": [json_number(curve[:, count - 1].std(ddof=1)) for count in shown],
        "queries_to_match": int(enough[0]) + 1 if len(enough) else None,
        "beaten_repeats_pct": json_number(100.0 * float((curve[:, -1] < reached).mean()))
        if reached is not None
        else None,
    }


def _supernet_agreement(
    table: BenchmarkTable,
    dataset: str,
    config: RunConfig,
    folder: RunFolder,
    size: tuple[int | None, int | None],
    epochs: int | None,
    trial: int | None,
    report: Say,
    left: Mapping[str, Sequence[Sequence[str]]] | None,
) -> dict[str, Any]:
    """Kendall's tau and top-k overlap (k a tenth of the cells) of one-shot validation accuracy with the table's.

    Args:
        left: of a search in stages the operations that each edge had left: its supernet holds no other cells.
    """
    # Here and not above, because a single cell is looked up without torch and SciPy.
    from benchmarks.tabular.agreement import kendall_tau, spearman_rho, top_k_overlap_pct
    from cscdarts.data.randomness import numpy_generator
    from cscdarts.training.one_shot import one_shot_scores

    cells, images = size
    valid = table.accuracy(dataset, "valid", epochs, trial)
    held = np.flatnonzero(np.isfinite(valid))
    if left is not None:
        held = np.array([index for index in held.tolist() if _holds(left, official_archs()[index])], dtype=np.intp)
    if cells is not None and cells < len(held):
        # A sample that depends on nothing but its size, so that runs are compared on the same cells.
        held = np.sort(numpy_generator(0, "one-shot cells", cells).choice(held, size=cells, replace=False))
    archs = [official_archs()[index] for index in held.tolist()]
    try:
        scores = np.array(one_shot_scores(config, folder, [read_cell(arch) for arch in archs], images, report))
    except (UserError, KeyError) as error:
        report(f"no one-shot scores: the supernet is not at hand ({error})")
        return {}
    k = max(1, len(held) // 10)
    return {
        "kendall_tau": json_number(kendall_tau(scores, valid[held])),
        "spearman_rho": json_number(spearman_rho(scores, valid[held])),
        "top_k_overlap_pct": json_number(top_k_overlap_pct(scores, valid[held], k)) if len(held) > 1 else None,
        "one_shot": {
            "cells": len(held),
            "images_at_most": images,
            "k": k,
            "index": held.tolist(),
            "supernet_valid_acc": [round(float(score), 4) for score in scores],
            "benchmark_valid_acc": [round(float(value), 4) for value in valid[held]],
        },
    }


def _holds(left: Mapping[str, Sequence[Sequence[str]]], arch: str) -> bool:
    """Whether each edge of a cell has one of the operations that it had left."""
    genotype = read_cell(arch)
    return all(
        edge.op in ops for kind, edges in left.items() for edge, ops in zip(genotype.edges(kind), edges, strict=True)
    )
