"""Curves over epochs from the runs' own files, read only for the runs that a figure or a page shows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cscdarts.spaces import softmax
from reports import statistics
from reports.read.searches import one_of_each
from reports.read.settings import Setting
from reports.read.store import Store

#: What the figures over epochs read.
CURVES = (
    "skip_count",
    "alpha_hessian_eigenvalue",
    "benchmark_test_acc_pct",
    "benchmark_percentile",
    "discretisation_gap_pct",
)


@dataclass(frozen=True)
class Curve:
    """One metric of one run: epochs and values of equal length, finite values only."""

    epochs: tuple[int, ...]
    values: tuple[float, ...]


class CurveBook:
    """Reads each run's `metrics.jsonl` once and keeps what was asked for.

    Args:
        store: where the runs' files are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, dict[str, Curve]] = {}

    def of(self, run: Mapping[Any, Any]) -> dict[str, Curve]:
        """All epoch curves of a run by metric name; empty where it left none."""
        identity = str(run["run_id"])
        if identity not in self._read:
            folder = self._store.folder(identity, str(run["artifact_uri"]))
            points: dict[str, dict[int, float]] = {}
            for line in folder.curves() if folder else []:
                for name, value in line["values"].items():
                    if isinstance(value, int | float) and math.isfinite(value):
                        points.setdefault(name, {})[int(line["epoch"])] = float(value)
            self._read[identity] = {
                name: Curve(tuple(sorted(found)), tuple(found[epoch] for epoch in sorted(found)))
                for name, found in points.items()
            }
        return self._read[identity]

    def forget(self, run: Mapping[Any, Any]) -> None:
        """Drop a run's curves once its page is written."""
        self._read.pop(str(run["run_id"]), None)

    def band(self, setting: Setting, metric: str) -> tuple[statistics.Values, ...] | None:
        """Epochs, mean, low, high over the setting's searches (finished or not), None where none has the curve."""
        curves = [self.of(run).get(metric) for run in one_of_each(setting.runs)]
        return band(curve for curve in curves if curve is not None)

    def alphas(self, setting: Setting) -> dict[str, list[np.ndarray[Any, Any]]]:
        """Softmax of alpha for each kind of cell: one array a search, shape (epochs, edges, operations)."""
        found: dict[str, list[np.ndarray[Any, Any]]] = {}
        for run in one_of_each(setting.runs):
            folder = self._store.folder(str(run["run_id"]), str(run["artifact_uri"]))
            kinds: dict[str, list[list[list[float]]]] = {}
            for line in folder.alphas() if folder else []:
                for kind, rows in (line.get("alpha") or {}).items():
                    kinds.setdefault(kind, []).append(rows)
            for kind, epochs in kinds.items():
                array = np.asarray(epochs, dtype=np.float64)
                if array.ndim == 3 and np.isfinite(array).all():
                    found.setdefault(kind, []).append(softmax(array))
        return found


def band(curves: Iterable[Curve]) -> tuple[statistics.Values, ...] | None:
    """Epochs, mean, mean - sd, mean + sd over curves that may lack epochs; None without a point."""
    kept = [curve for curve in curves if curve.epochs]
    if not kept:
        return None
    epochs = sorted({epoch for curve in kept for epoch in curve.epochs})
    where = {epoch: position for position, epoch in enumerate(epochs)}
    rows = []
    for curve in kept:
        row = [float("nan")] * len(epochs)
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            row[where[epoch]] = value
        rows.append(row)
    centre, low, high, _ = statistics.curve_band(rows)
    return np.asarray(epochs, dtype=np.float64), centre, low, high
