"""From the official packages to a table, and back again: reading everything once, and comparing a sample. No torch of
our own."""

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.official.api import OFFICIAL_SETS, OfficialBenchmark
from benchmarks.tabular.space import SIZE
from benchmarks.tabular.table import PREFIX, BenchmarkTable, Floats
from cscdarts.errors import UserError


def table_of(
    benchmark: OfficialBenchmark,
    report: Callable[[str], None],
    indices: Iterable[int] | None = None,
    advance: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> BenchmarkTable:
    """Ask the official API once for everything that a look-up needs: means, single trials, costs, query times.

    Args:
        report: told every 500 architectures how far it is.
        indices: only these architectures; all that the files hold unless given.
        advance: told after each one what is read, how many of them are, and of how many.

    Errors:
        UserError: a record is broken, or the benchmark is not of the topology space.
    """
    if getattr(benchmark, "space", "topology") != "topology":
        raise UserError(
            "--benchmark",
            str(benchmark.provenance["source"]),
            "the topology space (tss)",
            "The size space (sss) holds other architectures; ask benchmarks.official.nats.NatsBench for their costs.",
        )
    columns: dict[str, Floats] = {}
    chosen = list(benchmark.held if indices is None else indices)
    for number, index in enumerate(chosen, start=1):
        for name, value in _values(benchmark, index).items():
            columns.setdefault(name, np.full(SIZE, np.nan))[index] = value
        benchmark.forget(index)
        advance("cells read", number, len(chosen))
        if number % 500 == 0 or number == len(chosen):
            report(f"{number} of {len(chosen)} architectures read")
    return BenchmarkTable(dict(sorted(columns.items())), benchmark.provenance)


def _values(benchmark: OfficialBenchmark, index: int) -> dict[str, float]:
    """All columns of one architecture."""
    values: dict[str, float] = {}
    for epochs in benchmark.epochs(index):
        results = benchmark.results(index, epochs)
        for (dataset, split), (official, part) in OFFICIAL_SETS.items():
            if official not in results.dataset_seed:
                continue
            prefix = PREFIX[dataset]
            mean = results.get_metrics(official, part, is_random=False)
            values[f"{prefix}_{split}_acc_{epochs}"] = float(mean["accuracy"])
            for seed in results.get_dataset_seeds(official):
                trial = results.get_metrics(official, part, is_random=int(seed))
                values[f"{prefix}_{split}_acc_{epochs}_{seed}"] = float(trial["accuracy"])
            if split == "valid":
                info = benchmark.info(index, official, epochs)
                if info.get("train-all-time") is not None and info.get("valid-per-time") is not None:
                    # What the official simulate_train_eval counts for one query.
                    values[f"{prefix}_query_s_{epochs}"] = float(info["train-all-time"] + info["valid-per-time"])
            else:
                cost = results.get_compute_costs(official)
                values[f"{prefix}_params_mb"] = float(cost["params"])
                values[f"{prefix}_flops_m"] = float(cost["flops"])
    return values


def compare(
    table: BenchmarkTable, benchmark: OfficialBenchmark, sample: int, seed: int, report: Callable[[str], None]
) -> int:
    """Hold a random sample of a table against the official answers, exactly for accuracies.

    Returns:
        How many numbers were compared.

    Errors:
        UserError: one differs, or nothing is held by both.
    """
    from cscdarts.data.randomness import numpy_generator

    both = np.flatnonzero(table.held & np.isin(np.arange(SIZE), benchmark.held))
    if len(both) == 0:
        raise UserError(
            "--benchmark",
            str(benchmark.provenance["source"]),
            "files that hold what the index holds",
            "Give the index's own source.",
        )
    chosen = np.sort(numpy_generator(seed, "verify").choice(both, size=min(sample, len(both)), replace=False))
    fresh = table_of(benchmark, report, chosen.tolist())
    compared = 0
    for name in sorted(set(fresh.columns) & set(table.columns)):
        official, ours = fresh.columns[name][chosen], table.columns[name][chosen]
        known = np.isfinite(official) & np.isfinite(ours)
        # A CSV rounds to 6 decimals, and takes times from factors; an index made from the official files is exact.
        tolerance = 1e-6 if table.provenance.get("kind") == "csv" else 0.0
        if "_query_s_" in name and tolerance:
            tolerance = 0.5
        wrong = known & (np.abs(official - ours) > tolerance)
        if wrong.any():
            place = int(chosen[np.flatnonzero(wrong)[0]])
            raise UserError(
                f"{name} of architecture {place}",
                float(table.columns[name][place]),
                f"the official {float(fresh.columns[name][place])}",
                "The index does not belong to these files; make it again.",
            )
        compared += int(known.sum())
    return compared
