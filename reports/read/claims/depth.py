"""Do shallow and deep networks rank the same cells alike, and more so with the identity connection?"""

from collections.abc import Iterable, Mapping
from statistics import fmean

import numpy as np
from scipy import stats

from reports import statistics
from reports.read.claims.evidence import FEWEST, LEVEL, Evidence, few
from reports.read.settings import Setting, normal_text
from reports.words import counted

_DRAWS = 2000
#: Cell -> (identity, depth) -> mean test error over its retrainings.
Errors = Mapping[str, Mapping[tuple[str, int], float]]


def depth_gap(settings: Iterable[Setting], metric: str) -> Evidence:
    """Kendall's tau between the errors of the same given cells in the shallowest and in the deepest network, with the
    identity connection less without.

    Its interval is the percentile bootstrap over cells. Upheld where it lies above 0, refuted where it lies below.
    """
    errors = _errors(settings, metric)
    depths = sorted({depth for of_cell in errors.values() for _, depth in of_cell})
    wanted = [(identity, depth) for identity in ("cell", "none") for depth in (depths[0], depths[-1])] if depths else []
    cells = [cell for cell, of_cell in sorted(errors.items()) if wanted and all(place in of_cell for place in wanted)]
    if len(depths) < 2 or not cells:
        return Evidence("not run", why="no cell trained at two depths with and without the identity")
    table = np.array([[errors[cell][place] for place in wanted] for cell in cells])  # (cells, 4)
    taus = _taus(table)
    what = f"{counted(len(cells), 'cell')} in networks of {depths[0]} and of {depths[-1]} stacked"
    if taus is None or len(cells) < FEWEST:
        lack = few(len(cells), "cell") if len(cells) < FEWEST else "their errors at one depth are all equal"
        return Evidence("undecided", seeds=len(cells), why=f"{what}; {lack}")
    with_it, without = taus
    generator = np.random.default_rng(0)
    drawn = [_taus(table[generator.integers(0, len(table), len(table))]) for _ in range(_DRAWS)]
    differences = np.array([pair[0] - pair[1] for pair in drawn if pair is not None])
    low, high = (float(value) for value in np.quantile(differences, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]))
    effect, half = with_it - without, (high - low) / 2
    word = "upheld" if low > 0 else "refuted" if high < 0 else "undecided"
    needed = int(np.ceil(len(cells) * (half / abs(effect)) ** 2)) if word == "undecided" and effect else None
    moved = [_moved(float((table[:, k + 1] - table[:, k]).mean())) for k in (0, 2)]
    return Evidence(
        word,  # type: ignore[arg-type]
        effect,
        statistics.Interval(low, high),
        len(cells),
        1,
        needed,
        f"{what}; τ is {with_it:.2f} with the identity and {without:.2f} without; from shallow to deep the mean error "
        f"{moved[0]} with it and {moved[1]} without".replace("-", "−"),
    )


def _moved(points: float) -> str:
    text = f"{abs(points):.2f}"
    return "stays" if float(text) == 0 else f"{'rises' if points > 0 else 'falls'} by {text} points"


def _errors(settings: Iterable[Setting], metric: str) -> Errors:
    found: dict[str, dict[tuple[str, int], list[float]]] = {}
    for setting in settings:
        params = setting.params
        depth, values = params.get("evaluation.cells", ""), setting.values(metric)
        if params.get("search.strategy") != "given" or not values.size or not depth.isdigit():
            continue
        identity = params.get("supernet.identity", "none")
        if identity == "cell" and params.get("supernet.identity_phases", "both") not in ("both", "eval"):
            identity = "none"
        if identity in ("cell", "none") and normal_text(params.get("evaluation.split_eval", "")) != "true":
            of_cell = found.setdefault(params.get("search.genotype", ""), {})
            of_cell.setdefault((identity, int(depth)), []).extend(values.tolist())
    return {cell: {place: fmean(values) for place, values in places.items()} for cell, places in found.items()}


def _taus(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float] | None:
    """Kendall's tau-b of columns 0 and 1, and of 2 and 3; None where one is constant."""
    if any(np.ptp(table[:, column]) == 0 for column in range(4)):
        return None
    return tuple(float(stats.kendalltau(table[:, k], table[:, k + 1]).statistic) for k in (0, 2))  # type: ignore[return-value]
