"""Skip connections capped as in P-DARTS: which go, what takes their place, and that no other edge is touched."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cscdarts.errors import UserError
from cscdarts.spaces import DARTS, NASBENCH201, CellGenotype, DartsGenotype, KeptEdge
from cscdarts.spaces.rules import StrongestInputs, derive_capped, softmax
from cscdarts.training.derivation import DerivedCell, derived_cell
from tests.support.training.alphas import CONV, SKIP, config, lines


def capped(line: Mapping[str, Any], most: int, space: str = "nasbench201") -> DerivedCell:
    return derived_cell(config(space, search__derive="skip-cap", search__derive_skips=most), lines([line]), [], {})


def test_the_weakest_skip_connections_give_way_to_the_next_operation() -> None:
    """Six edges whose skip connection weighs most, edge 4 least of all and edge 1 next; 1x1 comes second everywhere."""
    strength = [3.0, 1.5, 2.5, 2.2, 1.2, 2.0]
    alpha = [[0.0, value, 1.0, 0.5, 0.2] for value in strength]
    line = {"alpha": {"cell": alpha}}
    for most, replaced in ((6, set()), (5, {4}), (4, {4, 1}), (2, {4, 1, 5, 3}), (0, set(range(6)))):
        ops = ["nor_conv_1x1" if edge in replaced else SKIP for edge in range(6)]
        assert capped(line, most).genotype == CellGenotype(tuple(ops))


def test_a_strong_skip_on_an_open_edge_is_weaker_than_one_on_a_decided_edge() -> None:
    """The weight is softmax(alpha), not alpha: of 2 beside three 1.9s less is left than of 1 beside 0s."""
    decided, open_ = [0.0, 1.0, 0.0, 0.0, 0.0], [1.9, 2.0, 1.9, 1.9, 0.0]
    found = capped({"alpha": {"cell": [decided] * 5 + [open_]}}, 5).genotype
    assert found == CellGenotype((SKIP,) * 5 + ("none",))


def darts_line(rows: Mapping[int, Mapping[str, float]], beta: Mapping[int, float] | None = None) -> dict[str, Any]:
    """Both kinds of cell: log weights of a row are 0 but for what is given, so weights are easily reckoned."""
    alpha = np.zeros((14, 8))
    for row, values in rows.items():
        for op, weight in values.items():
            alpha[row, DARTS.ops.index(op)] = math.log(weight)
    line: dict[str, Any] = {"alpha": {kind: alpha.tolist() for kind in ("normal", "reduce")}}
    if beta is not None:
        edge = np.zeros(14)
        for row, weight in beta.items():
            edge[row] = math.log(weight)
        line["beta"] = {kind: edge.tolist() for kind in ("normal", "reduce")}
    return line


def test_an_input_that_loses_its_skip_connection_may_lose_its_place() -> None:
    """Node 3 has inputs 0, 1, 2 (rows 2, 3, 4): by hand, with weights of 7 + w.

    Row 2: skip 20, conv 2 of 28. Row 3: conv 9 of 16. Row 4: conv 4 of 11. The skip of row 2 goes: what is left there
    is 2/28 < 4/11, so inputs 1 and 2 stay. Were the weights normalised again, 2/8 < 4/11 all the same.
    """
    line = darts_line({2: {SKIP: 20, CONV: 2}, 3: {CONV: 9}, 4: {CONV: 4}})
    free, none_left = capped(line, 8, "darts").genotype, capped(line, 0, "darts").genotype
    assert isinstance(free, DartsGenotype)
    assert isinstance(none_left, DartsGenotype)
    assert free.normal[2:4] == ((SKIP, 0), (CONV, 1))
    assert none_left.normal[2:4] == ((CONV, 1), (CONV, 2))


def test_what_stays_on_an_edge_keeps_its_weight() -> None:
    """As in the released P-DARTS: row 2 without its skip has 6/32, less than row 4's 3/10; normalised anew it would
    have 6/12 and stay."""
    line = darts_line({2: {SKIP: 20, CONV: 6}, 3: {CONV: 9}, 4: {CONV: 3}})
    found = capped(line, 0, "darts").genotype
    assert isinstance(found, DartsGenotype)
    assert found.normal[2:4] == ((CONV, 1), (CONV, 2))


def test_only_the_normal_cell_is_capped() -> None:
    line = darts_line({row: {SKIP: 20, CONV: 2} for row in range(14)})
    found = capped(line, 2, "darts").genotype
    assert isinstance(found, DartsGenotype)
    assert [op for op, _ in found.reduce].count(SKIP) == 8
    assert [op for op, _ in found.normal].count(SKIP) == 2
    # Of equals the earlier edge goes, so the last node keeps its own.
    assert [op for op, _ in found.normal[6:]] == [SKIP, SKIP]


def test_edge_parameters_choose_inputs_and_not_which_skip_connection_goes() -> None:
    rows = {0: {SKIP: 30, CONV: 2}, 1: {SKIP: 20, CONV: 2}}
    found = capped(darts_line(rows, beta={0: 1.0, 1: 9.0}), 1, "darts").genotype
    assert isinstance(found, DartsGenotype)
    assert sorted(found.normal[:2], key=lambda gene: gene[1]) == [(SKIP, 0), (CONV, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_laws_of_the_cap(seed: int) -> None:
    """On random alphas: at most k, nothing changes that need not, each cap goes on from the one before it."""
    draw = np.random.default_rng(seed)
    alpha = {kind: draw.normal(size=(14, 8)) for kind in DARTS.cell_kinds}
    for kind in alpha:
        alpha[kind][:, DARTS.ops.index(SKIP)] += 2.0
    free = DARTS.rule.derive(DARTS, DARTS.ops, alpha, None)
    before: tuple[KeptEdge, ...] | None = None
    for most in range(8, -1, -1):
        cells, removed = derive_capped(DARTS, DARTS.ops, alpha, None, most)
        skips = [edge for edge in cells["normal"] if edge.op == SKIP]
        assert len(skips) <= most
        assert cells["reduce"] == free["reduce"]
        assert (not removed) == (cells == free)
        assert before is None or removed[: len(before)] == before
        assert not set(removed) & set(skips)
        before = removed
    assert len(before or ()) >= len([edge for edge in free["normal"] if edge.op == SKIP])


def test_the_cap_is_that_of_the_released_code() -> None:
    """Reckoned as chenxin061/pdarts train_search.py does: a probability is set to 0, one operation and two inputs of a
    node are kept."""
    skip = DARTS.ops.index(SKIP)
    for seed in range(30):
        draw = np.random.default_rng(100 + seed)
        alpha = {kind: draw.normal(size=(14, 8)) for kind in DARTS.cell_kinds}
        alpha["normal"][:, skip] += 1.5
        weights = softmax(alpha["normal"])
        weights[:, 0] = 0.0
        while True:
            chosen, strength = weights.argmax(1), weights.max(1)
            kept = sorted(
                row for rows in DARTS.incoming.values() for row in sorted(rows, key=lambda row: -strength[row])[:2]
            )
            with_skip = [row for row in kept if chosen[row] == skip]
            if len(with_skip) <= 2:
                break
            weights[min(with_skip, key=lambda row: weights[row, skip]), skip] = 0.0
        cells, _ = derive_capped(DARTS, DARTS.ops, alpha, None, 2)
        assert {(DARTS.edges[row], DARTS.ops[chosen[row]]) for row in kept} == {
            ((edge.source, edge.target), edge.op) for edge in cells["normal"]
        }


class Weakest:
    """A rule of a user's own: every edge keeps what weighs least and is not ruled out."""

    def derive(
        self, space: Any, ops: tuple[str, ...], alpha: Mapping[str, Any], beta: Mapping[str, Any] | None
    ) -> dict[str, tuple[KeptEdge, ...]]:
        low = np.where(np.isneginf(alpha["cell"]), np.inf, alpha["cell"])
        return {
            "cell": tuple(
                KeptEdge(source, target, ops[int(at)])
                for (source, target), at in zip(space.edges, low.argmin(1), strict=True)
            )
        }

    def sample(self, space: Any, draw: Any) -> dict[str, tuple[KeptEdge, ...]]:
        raise NotImplementedError


def test_a_rule_of_ones_own_is_capped_too() -> None:
    space = replace(NASBENCH201, rule=Weakest())
    alpha = {"cell": np.array([[1.0, 0.1 * edge, 3.0, 3.0, 3.0] for edge in range(6)])}
    cells, removed = derive_capped(space, NASBENCH201.ops, alpha, None, 4)
    assert [edge.op for edge in cells["cell"]] == ["none", "none", SKIP, SKIP, SKIP, SKIP]
    assert [edge[:2] for edge in removed] == [(0, 1), (0, 2)]
    assert alpha["cell"][0, 1] == 0.0  # what was given is left alone


def test_a_rule_that_only_keeps_another_number_of_inputs_is_capped_by_weights() -> None:
    space = replace(DARTS, rule=StrongestInputs(1))
    cells, _ = derive_capped(space, DARTS.ops, {kind: np.zeros((14, 8)) for kind in DARTS.cell_kinds}, None, 0)
    assert len(cells["normal"]) == 4


def test_weights_that_vanish_in_floating_point_leave_another_operation() -> None:
    alpha = {"normal": np.zeros((14, 2)), "reduce": np.zeros((14, 2))}
    alpha["normal"][:, 0] = 2000.0
    cells, removed = derive_capped(DARTS, (SKIP, CONV), alpha, None, 0)
    assert {edge.op for edge in cells["normal"]} == {CONV}
    assert {edge.op for edge in removed} == {SKIP}


def test_nothing_but_skip_connections_cannot_be_capped() -> None:
    line = {"alpha": {kind: np.zeros((14, 2)).tolist() for kind in ("normal", "reduce")}}
    chosen = config("darts", supernet__ops=("none", SKIP), search__derive="skip-cap")
    with pytest.raises(UserError, match=r"search\.derive: 'skip-cap at 2' .*has no other one"):
        derived_cell(chosen, lines([line]), [], {})
