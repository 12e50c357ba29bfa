"""Every metric, declared once: name, unit, direction, digits, label. Tables, figures, MLflow and tests read this list."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]


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
    """

    name: str
    unit: str
    better: Direction
    digits: int
    label: str
    per: Literal["epoch", "run"]


_ALL = (
    # curves of the search
    Metric("search_train_loss", "", "lower", 4, "search training loss", "epoch"),
    Metric("search_valid_loss", "", "lower", 4, "search validation loss", "epoch"),
    Metric("search_train_error_pct", "%", "lower", 2, "search training error", "epoch"),
    Metric("search_valid_error_pct", "%", "lower", 2, "supernet validation error", "epoch"),
    Metric("weight_lr", "", "none", 5, "learning rate of the weights", "epoch"),
    Metric("identity_scale", "", "none", 3, "identity scale", "epoch"),
    Metric("alpha_entropy", "nat", "none", 3, "mean entropy of softmax(alpha)", "epoch"),
    Metric("skip_share_pct", "%", "none", 1, "share of skip connections in the derived cell", "epoch"),
    Metric("skip_count", "", "none", 0, "skip connections in the derived normal cell", "epoch"),
    Metric("discretisation_gap_pct", "%", "lower", 2, "discretisation gap", "epoch"),
    Metric("hvp_cosine", "", "higher", 3, "cosine of finite-difference to exact Hessian-vector product", "epoch"),
    Metric(
        "alpha_hessian_eigenvalue", "", "lower", 3, "largest eigenvalue of the validation Hessian in alpha", "epoch"
    ),
    Metric("search_epoch_time_s", "s", "lower", 2, "seconds for a search epoch", "epoch"),
    # curves of the retraining
    Metric("retrain_train_loss", "", "lower", 4, "retraining loss", "epoch"),
    Metric("retrain_train_error_pct", "%", "lower", 2, "retraining error", "epoch"),
    Metric("retrain_epoch_time_s", "s", "lower", 2, "seconds for a retraining epoch", "epoch"),
    # looked up for the derived cell, per epoch
    Metric("benchmark_valid_acc_pct", "%", "higher", 2, "benchmark validation accuracy", "epoch"),
    Metric("benchmark_test_acc_pct", "%", "higher", 2, "benchmark test accuracy", "epoch"),
    Metric("benchmark_percentile", "%", "higher", 2, "benchmark percentile", "epoch"),
    Metric("benchmark_regret_pct", "%", "lower", 2, "benchmark regret", "epoch"),
    # results
    Metric("test_error_pct", "%", "lower", 2, "test error", "run"),
    Metric("test_top5_error_pct", "%", "lower", 2, "top-5 test error", "run"),
    Metric("supernet_valid_error_pct", "%", "lower", 2, "supernet validation error", "run"),
    Metric("derived_valid_error_pct", "%", "lower", 2, "derived cell's one-shot validation error", "run"),
    Metric("params_m", "M", "lower", 3, "parameters", "run"),
    Metric("macs_m", "M", "lower", 1, "MACs", "run"),
    Metric("supernet_params_m", "M", "lower", 3, "supernet parameters", "run"),
    Metric("supernet_macs_m", "M", "lower", 1, "supernet MACs", "run"),
    Metric("memory_access_mb", "MB", "lower", 1, "memory access of the supernet", "run"),
    Metric("saved_mb", "MB", "lower", 1, "saved for backward", "run"),
    Metric("peak_memory_mib", "MiB", "lower", 0, "peak memory of the search", "run"),
    Metric("search_time_s", "s", "lower", 1, "search time", "run"),
    Metric("retrain_time_s", "s", "lower", 1, "retraining time", "run"),
    Metric("kendall_tau", "", "higher", 3, "Kendall tau, supernet against benchmark", "run"),
    Metric("top_k_overlap_pct", "%", "higher", 1, "top-k overlap, supernet against benchmark", "run"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def format_value(name: str, value: float | None) -> str:
    """A metric's value with its declared digits; a dash for a missing or non-finite one, never 0."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return "–"
    return f"{value:.{METRICS[name].digits}f}"
