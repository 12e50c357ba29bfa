"""CSV (RFC 4180, UTF-8): `runs.csv`, a row a run; `curves.csv`, a row an epoch and metric."""

import csv
from pathlib import Path

from ablations.mirror.exports.content import RunContent
from cscdarts.settings.metrics import METRICS

#: What it needs beside the package.
PACKAGES = ()


def write(runs: list[RunContent], out: Path) -> None:
    """Write both tables; full precision, and nothing where a run has no such value."""
    settings = sorted({name for run in runs for name in run.settings})
    results = [name for name in METRICS if any(name in run.results for run in runs)]
    with (out / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["grid", "hash", "name", "method", "scale", "status", "genotype", "notes", *results, *settings])
        for run in runs:
            told = [run.grid, run.key, run.name, run.tags["method"], run.tags["scale"], run.status, run.genotype]
            numbers = [repr(run.results[name]) if name in run.results else "" for name in results]
            table.writerow([*told, run.notes, *numbers, *(run.settings.get(name, "") for name in settings)])
    with (out / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["grid", "hash", "stage", "epoch", "time", "metric", "value"])
        for run in runs:
            for line in run.lines:
                numbers = [str(line.epoch), repr(line.time), line.metric, repr(line.value)]
                table.writerow([run.grid, run.key, line.stage, *numbers])
