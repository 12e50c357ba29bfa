"""A page for each run: record, results, config against the default, cell, curves, end of the log. Plain text and small
SVG, because a report may have thousands of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.metrics import METRICS, format_value
from cscdarts.spaces.genotype import parse_genotype
from reports.figures.genotype import cell_svg, layout
from reports.read.curves import Curve
from reports.read.settings import code, default_params, method_title, normal_text

#: Curves that a run page draws, in order.
SHOWN = (
    "search_train_loss",
    "search_valid_error_pct",
    "alpha_entropy",
    "skip_count",
    "discretisation_gap_pct",
    "alpha_hessian_eigenvalue",
    "hvp_cosine",
    "benchmark_test_acc_pct",
    "retrain_train_loss",
    "retrain_train_error_pct",
)
LOG_LINES, LOG_BYTES = 25, 8192


def run_page(
    environment: Environment,
    style: Markup,
    run: Mapping[str, Any],
    folder: RunFolder | None,
    curves: Mapping[str, Curve],
    store_name: str,
) -> str:
    """The run's HTML.

    Args:
        environment: jinja with autoescape on.
        style: the style sheet.
        run: its row of `Store.runs`.
        folder: its files, None where there are none.
        curves: its curves by metric.
        store_name: which store the run is in, as printed.
    """
    methods = " = ".join(method_title(name) for name in str(run["methods"]).split(",") if name)
    text = str(run["genotype"] or "")
    return environment.get_template("run.html").render(
        run=run,
        style=style,
        lead=f"{methods}, seed {run['seed']}, {run['data'] or 'unknown data'}, scale {run['scale'] or 'unknown'}, "
        f"{run['status'] or 'unknown state'}",
        facts=_facts(run, store_name),
        failure=str(run["failure"] or "") if run["status"] == "failed" else "",
        results=_results(run),
        changes=_changes(run),
        cells=_cells(text),
        curves=Markup("".join(_line_svg(name, curves[name]) for name in SHOWN if name in curves)),
        log=log_tail(folder),
    )


def moment(milliseconds: Any) -> str:
    """A time of the record as `2025-06-15 15:06:40 UTC`, a dash where unknown."""
    try:
        return datetime.fromtimestamp(float(milliseconds) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return "–"


def log_tail(folder: RunFolder | None) -> str:
    """The last lines of the log; only its end is read."""
    path = folder.file("log.txt") if folder else None
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = text.splitlines()[1 if size > LOG_BYTES else 0 :]
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "�" for c in line) for line in lines[-LOG_LINES:])


def _facts(run: Mapping[str, Any], store_name: str) -> list[tuple[str, str]]:
    pairs = [
        ("grid", run["grid"]),
        (
            "commit",
            f"{run['commit']}{' with uncommitted changes' if code(run).endswith('+') else ''}" if run["commit"] else "",
        ),
        ("machine", run["hardware"]),
        ("host", run["host"]),
        ("torch", run["torch"]),
        ("begun", moment(run["start_ms"])),
        ("ended", moment(run["end_ms"])),
        ("MLflow run", f"{run['run_id']} in {store_name}, experiment {run['experiment_id']}"),
    ]
    return [(label, str(value or "–")) for label, value in pairs]


def _results(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, metric in METRICS.items():
        value = run.get(name)
        if metric.per == "run" and isinstance(value, float) and value == value:
            unit = f" {metric.unit}" if metric.unit else ""
            found.append((metric.label, f"{format_value(name, value)}{unit}"))
    return found


def _changes(run: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    defaults = default_params()
    found = []
    for name in sorted(key for key in run if "." in str(key)):
        value = run[name]
        if isinstance(value, str) and value and normal_text(value) != normal_text(defaults.get(name)):
            found.append((str(name), value, defaults.get(name, "–")))
    return found


@lru_cache(maxsize=4096)
def _cells(text: str) -> Markup:
    try:
        return Markup(cell_svg(layout(parse_genotype(text)))) if text else Markup("")
    except UserError:
        return Markup("")


def _line_svg(name: str, curve: Curve) -> str:
    """A small line chart with its first, last, lowest and highest numbers written out."""
    metric = METRICS[name]
    width, height, left, top, bottom = 300, 150, 46, 24, 22
    low, high = min(curve.values), max(curve.values)
    first, last = curve.epochs[0], curve.epochs[-1]
    across, up = max(1, last - first), (high - low) or 1.0

    def x(epoch: int) -> float:
        return left + (width - left - 10) * (epoch - first) / across

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * ((value - low) / up if high > low else 0.5)

    points = " ".join(f"{x(e):.1f},{y(v):.1f}" for e, v in zip(curve.epochs, curve.values, strict=True))
    unit = f" [{metric.unit}]" if metric.unit else ""
    words = (
        f"{metric.label}{unit}: from {curve.values[0]:.4g} at epoch {first} to {curve.values[-1]:.4g} at epoch {last}"
    )
    marks = f'<text x="{left - 5}" y="{y(high) + 4:.1f}" text-anchor="end">{high:.4g}</text>'
    if high > low:
        marks += f'<text x="{left - 5}" y="{y(low) + 4:.1f}" text-anchor="end">{low:.4g}</text>'
    shape = (
        f'<polyline points="{points}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        if len(curve.epochs) > 1
        else f'<circle cx="{x(first):.1f}" cy="{y(curve.values[0]):.1f}" r="3" fill="var(--accent)"/>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" class="line" role="img" aria-label="{escape(words, quote=True)}">'
        f'<text x="4" y="13">{escape(metric.label + unit)}</text>'
        f'<path d="M{left} {top}V{height - bottom}H{width - 8}" fill="none" stroke="var(--line)"/>'
        f'{marks}<text x="{left}" y="{height - 6}">{first}</text>'
        f'<text x="{width - 10}" y="{height - 6}" text-anchor="end">epoch {last}</text>{shape}</svg>'
    )
