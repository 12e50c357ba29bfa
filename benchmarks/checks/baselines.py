"""Searches that only query a table: random search and regularised evolution, all repeats at once. No torch.

Both see validation accuracy and report the test accuracy of the best cell by validation so far, as NAS-Bench-201 does.
"""

import numpy as np

from benchmarks.tabular.space import POWERS, SIZE, Ints, index_of_code, official_codes
from benchmarks.tabular.table import Floats

EDGES, OPS = 6, 5


def random_search(valid: Floats, test: Floats, queries: int, repeats: int, draw: np.random.Generator) -> Floats:
    """Test accuracy of the incumbent after 1..queries uniform draws among the held cells, with replacement.

    Args:
        valid, test: (15625,) by official index, NaN where not held.

    Returns:
        (repeats, queries).
    """
    held = np.flatnonzero(np.isfinite(valid) & np.isfinite(test))
    return _incumbents(valid, test, held[draw.integers(len(held), size=(repeats, queries))])


def regularised_evolution(
    valid: Floats,
    test: Floats,
    queries: int,
    repeats: int,
    draw: np.random.Generator,
    population: int = 10,
    tournament: int = 3,
) -> Floats:
    """Test accuracy of the incumbent after 1..queries of aging evolution (Real et al. 2019, arXiv 1802.01548).

    Population 10 and tournament 3 are those of the NAS-Bench-201 experiments. A child differs from the winner of the
    tournament in the operation of one edge; the oldest dies.

    Args:
        valid, test: (15625,) by official index, without NaN.

    Returns:
        (repeats, queries).
    """
    codes, indices = official_codes(), index_of_code()
    asked = np.empty((repeats, queries), dtype=np.int64)
    first = min(population, queries)
    asked[:, :first] = draw.integers(SIZE, size=(repeats, first))
    rows = np.arange(repeats)
    for step in range(first, queries):
        # Who was asked last `population` times is alive: the window is the population, its left end the oldest.
        alive = asked[:, step - population : step]
        # The smallest of `tournament` columns of random keys: distinct members, uniformly.
        chosen = np.argpartition(draw.random((repeats, population)), tournament - 1, axis=1)[:, :tournament]
        contenders = np.take_along_axis(alive, chosen, axis=1)
        parent = contenders[rows, np.argmax(valid[contenders], axis=1)]
        asked[:, step] = indices[_mutate(codes[parent], draw)]
    return _incumbents(valid, test, asked)


def _mutate(codes: Ints, draw: np.random.Generator) -> Ints:
    """Codes with one edge's operation replaced by another one, uniformly."""
    power = POWERS[draw.integers(EDGES, size=len(codes))]
    old = codes // power % OPS
    new = (old + draw.integers(1, OPS, size=len(codes))) % OPS
    changed: Ints = np.asarray(codes + (new - old) * power, dtype=np.int64)
    return changed


def _incumbents(valid: Floats, test: Floats, asked: Ints) -> Floats:
    """Test accuracy of the best by validation so far (the earliest of equals), (repeats, queries)."""
    seen = valid[asked]
    best_so_far = np.maximum.accumulate(seen, axis=1)
    improves = np.ones_like(seen, dtype=np.bool_)
    improves[:, 1:] = seen[:, 1:] > best_so_far[:, :-1]
    position = np.maximum.accumulate(np.where(improves, np.arange(seen.shape[1]), 0), axis=1)
    incumbent: Floats = test[np.take_along_axis(asked, position, axis=1)]
    return incumbent
