"""The searches on a table against plain loops with the same draws."""

import numpy as np
import pytest

from benchmarks.checks.baselines import random_search, regularised_evolution
from benchmarks.tabular.space import POWERS, SIZE, index_of_code, official_codes

NAN = float("nan")


def incumbents(valid: np.ndarray, test: np.ndarray, asked: list[int]) -> list[float]:
    """Test accuracy of the best by validation so far, the earliest of equals."""
    best, found = asked[0], []
    for index in asked:
        if valid[index] > valid[best]:
            best = index
        found.append(test[best])
    return found


def test_random_search_equals_a_plain_loop() -> None:
    draw = np.random.default_rng(1)
    valid = np.round(draw.random(SIZE) * 20)  # with many equals
    test = draw.random(SIZE)
    valid[:4000], test[4000:8000] = NAN, NAN
    found = random_search(valid, test, queries=30, repeats=6, draw=np.random.default_rng(2))
    held = [k for k in range(SIZE) if np.isfinite(valid[k]) and np.isfinite(test[k])]
    picks = np.random.default_rng(2).integers(len(held), size=(6, 30))
    for row, chosen in zip(found, picks, strict=True):
        assert row.tolist() == incumbents(valid, test, [held[k] for k in chosen])


@pytest.mark.parametrize(("population", "tournament", "queries"), [(10, 3, 40), (4, 2, 25), (10, 3, 7)])
def test_evolution_equals_a_plain_loop(population: int, tournament: int, queries: int) -> None:
    values = np.random.default_rng(3)
    valid, test = values.permutation(SIZE).astype(float), values.random(SIZE)
    options = {} if population == 10 else {"population": population, "tournament": tournament}
    found = regularised_evolution(valid, test, queries, 5, np.random.default_rng(4), **options)

    draw, codes, indices = np.random.default_rng(4), official_codes(), index_of_code()
    asked = [list(map(int, row)) for row in draw.integers(SIZE, size=(5, min(population, queries)))]
    while len(asked[0]) < queries:
        keys = draw.random((5, population))
        winners = []
        for history, key in zip(asked, keys, strict=True):
            alive = history[-population:]
            chosen = sorted(range(population), key=lambda k: key[k])[:tournament]
            winners.append(max((alive[k] for k in chosen), key=lambda index: valid[index]))
        edges = draw.integers(6, size=5)
        steps = draw.integers(1, 5, size=5)
        for history, winner, edge, step in zip(asked, winners, edges, steps, strict=True):
            digits = [int(codes[winner]) // int(power) % 5 for power in POWERS]
            digits[edge] = (digits[edge] + int(step)) % 5
            history.append(int(indices[sum(d * int(power) for d, power in zip(digits, POWERS, strict=True))]))
    for row, history in zip(found, asked, strict=True):
        assert row.tolist() == incumbents(valid, test, history)
