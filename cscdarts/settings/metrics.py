"""Every metric, declared once: name, unit, direction, digits, label, and where a run writes it. Tables, figures, MLflow
and tests read this list; a test runs both spaces and finds every metric in its place."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]
Stage = Literal["search", "derive", "check", "retrain"]
#: What a metric needs beside its stage: `supernet`, a search that trains one (`random` and `given` do not);
#: `cosine_every` or `hessian_every`, a probe that is off by default; `stages`, a search in several; `classes`, more
#: than ten of them.
Condition = Literal["", "supernet", "cosine_every", "hessian_every", "stages", "classes"]


@dataclass(frozen=True)
class Metric:
    """One recorded quantity.

    Attributes:
        name: key in `metrics.jsonl`, `result.json` and MLflow; carries its unit.
        unit: unit as printed, or "" for a pure number.
        better: which direction is better, `none` for a description.
        digits: digits after the decimal point in tables.
        label: heading in tables and on axes.
        per: `epoch` for a curve, `run` for one number a run.
        stage: which stage writes it. A curve is in the lines of that stage in `metrics.jsonl`; a number of the run is
            in that stage's file: `search.json`, `genotype.json` and `result.json` under `values`, `check.json` at the
            top. The tracker has both.
        needs: what it takes beside the stage, "" for nothing.
    """

    name: str
    unit: str
    better: Direction
    digits: int
    label: str
    per: Literal["epoch", "run"]
    stage: Stage
    needs: Condition = ""


_ALL = (
    # curves of the search
    Metric("search_train_loss", "", "lower", 4, "search training loss", "epoch", "search", "supernet"),
    Metric("search_valid_loss", "", "lower", 4, "search validation loss", "epoch", "search", "supernet"),
    Metric("search_train_error_pct", "%", "lower", 2, "search training error", "epoch", "search", "supernet"),
    Metric("search_valid_error_pct", "%", "lower", 2, "supernet validation error", "epoch", "search", "supernet"),
    Metric("weight_lr", "", "none", 5, "learning rate of the weights", "epoch", "search", "supernet"),
    Metric("identity_scale", "", "none", 3, "identity scale", "epoch", "search", "supernet"),
    Metric("alpha_entropy", "nat", "none", 3, "mean entropy of softmax(alpha)", "epoch", "search", "supernet"),
    Metric(
        "skip_share_pct", "%", "none", 1, "share of skip connections in the derived cell", "epoch", "search", "supernet"
    ),
    Metric("skip_count", "", "none", 0, "skip connections in the derived normal cell", "epoch", "search", "supernet"),
    Metric("discretisation_gap_pct", "%", "lower", 2, "discretisation gap", "epoch", "search", "supernet"),
    Metric(
        "hvp_cosine",
        "",
        "higher",
        3,
        "cosine of finite-difference to exact Hessian-vector product",
        "epoch",
        "search",
        "cosine_every",
    ),
    Metric(
        "alpha_hessian_eigenvalue",
        "",
        "lower",
        3,
        "largest eigenvalue of the validation Hessian in alpha",
        "epoch",
        "search",
        "hessian_every",
    ),
    Metric("search_stage", "", "none", 0, "stage of the search", "epoch", "search", "stages"),
    Metric("search_cells", "", "none", 0, "cells of the supernet", "epoch", "search", "stages"),
    Metric("search_epoch_time_s", "s", "lower", 2, "seconds for a search epoch", "epoch", "search", "supernet"),
    # curves of the retraining
    Metric("retrain_train_loss", "", "lower", 4, "retraining loss", "epoch", "retrain"),
    Metric("retrain_train_error_pct", "%", "lower", 2, "retraining error", "epoch", "retrain"),
    Metric("retrain_epoch_time_s", "s", "lower", 2, "seconds for a retraining epoch", "epoch", "retrain"),
    # looked up for the derived cell, per epoch
    Metric("benchmark_valid_acc_pct", "%", "higher", 2, "benchmark validation accuracy", "epoch", "check"),
    Metric("benchmark_test_acc_pct", "%", "higher", 2, "benchmark test accuracy", "epoch", "check"),
    Metric("benchmark_percentile", "%", "higher", 2, "benchmark percentile", "epoch", "check"),
    Metric("benchmark_regret_pct", "%", "lower", 2, "benchmark regret", "epoch", "check"),
    # results
    Metric("test_error_pct", "%", "lower", 2, "test error", "run", "retrain"),
    Metric("test_top5_error_pct", "%", "lower", 2, "top-5 test error", "run", "retrain", "classes"),
    Metric("supernet_valid_error_pct", "%", "lower", 2, "supernet validation error", "run", "search", "supernet"),
    Metric(
        "derived_valid_error_pct",
        "%",
        "lower",
        2,
        "derived cell's one-shot validation error",
        "run",
        "derive",
        "supernet",
    ),
    Metric("params_m", "M", "lower", 3, "parameters", "run", "retrain"),
    Metric("macs_m", "M", "lower", 1, "MACs", "run", "retrain"),
    Metric("supernet_params_m", "M", "lower", 3, "supernet parameters", "run", "search", "supernet"),
    Metric("supernet_macs_m", "M", "lower", 1, "supernet MACs", "run", "search", "supernet"),
    Metric("memory_access_mb", "MB", "lower", 1, "memory access of the supernet", "run", "search", "supernet"),
    Metric("saved_mb", "MB", "lower", 1, "saved for backward", "run", "search", "supernet"),
    Metric("peak_memory_mib", "MiB", "lower", 0, "peak memory of the search", "run", "search", "supernet"),
    Metric("search_time_s", "s", "lower", 1, "search time", "run", "search"),
    Metric("retrain_time_s", "s", "lower", 1, "retraining time", "run", "retrain"),
    Metric("kendall_tau", "", "higher", 3, "Kendall tau, supernet against benchmark", "run", "check", "supernet"),
    Metric(
        "top_k_overlap_pct", "%", "higher", 1, "top-k overlap, supernet against benchmark", "run", "check", "supernet"
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def format_value(name: str, value: float | None) -> str:
    """A metric's value with its declared digits; a dash for a missing or non-finite one, never 0."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return "–"
    return f"{value:.{METRICS[name].digits}f}"
