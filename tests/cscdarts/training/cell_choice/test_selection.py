"""The choice by perturbation on supernets whose answer is known."""

import numpy as np
import pytest

from cscdarts.spaces import DARTS, NASBENCH201, CellGenotype
from cscdarts.spaces.space import Space
from cscdarts.training.cell_choice.selection import Rows, answer, cell_of, questions


def start(space: Space) -> Rows:
    """Equal weights."""
    return {kind: np.full((len(space.edges), len(space.ops)), 1 / len(space.ops)) for kind in space.cell_kinds}


def decided(space: Space, worth: Rows, seed: int = 0) -> Rows:
    """All decisions, where the error is what is missing: the sum over weights that are there, times their worth."""
    rows = start(space)

    def error(present: Rows) -> float:
        return -sum(float(((present[kind] > 0) * worth[kind]).sum()) for kind in worth)

    for question in questions(space, np.random.default_rng(seed)):
        rows = answer(question, space, space.ops, rows, error)
    return rows


def test_each_edge_keeps_what_it_misses_most_whatever_the_weights_say() -> None:
    wanted = ("nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
    worth = {"cell": np.random.default_rng(1).random((6, 5))}
    for row, op in enumerate(wanted):
        worth["cell"][row, NASBENCH201.ops.index(op)] = 2.0
    for seed in range(3):  # the order of the decisions does not matter where edges do not
        assert cell_of(NASBENCH201, NASBENCH201.ops, decided(NASBENCH201, worth, seed)) == CellGenotype(wanted)


def test_a_node_keeps_the_inputs_it_misses_most_and_never_none() -> None:
    rng = np.random.default_rng(2)
    worth = {kind: rng.random((len(DARTS.edges), len(DARTS.ops))) for kind in DARTS.cell_kinds}
    for kind in worth:
        worth[kind][:, DARTS.ops.index("none")] = 5.0
    cell = cell_of(DARTS, DARTS.ops, decided(DARTS, worth))
    for kind in DARTS.cell_kinds:
        # What an edge is worth once it has its operation is that operation's worth.
        best = np.delete(worth[kind], DARTS.ops.index("none"), axis=1).max(1)
        for node, rows in DARTS.incoming.items():
            kept = {source for source, target, _ in cell.edges(kind) if target == node}
            expected = {DARTS.edges[row][0] for row in sorted(rows, key=lambda row: -best[row])[:2]}
            assert kept == expected
        assert "none" not in {op for *_, op in cell.edges(kind)}


def test_of_equals_the_heavier_operation_stays() -> None:
    rows = start(NASBENCH201)
    rows["cell"][3] = [0.1, 0.2, 0.4, 0.2, 0.1]
    question = next(q for q in questions(NASBENCH201, np.random.default_rng(0)) if q.rows == (3,))
    after = answer(question, NASBENCH201, NASBENCH201.ops, rows, lambda _: 50.0)
    assert after["cell"][3].tolist() == [0, 0, 1, 0, 0]
    assert rows["cell"][3].tolist() == [0.1, 0.2, 0.4, 0.2, 0.1]


@pytest.mark.parametrize("space", [DARTS, NASBENCH201])
def test_every_edge_and_every_node_is_asked_once(space: Space) -> None:
    asked = questions(space, np.random.default_rng(0))
    operations = sorted((q.kind, q.rows[0]) for q in asked if q.about == "operation")
    assert operations == sorted((kind, row) for kind in space.cell_kinds for row in range(len(space.edges)))
    nodes = [q for q in asked if q.about == "inputs"]
    assert len(nodes) == (len(space.incoming) * len(space.cell_kinds) if space is DARTS else 0)
    assert all(q.about == "operation" for q in asked[: len(operations)])  # inputs are decided last
