"""Macro structures: the published stacks by hand, and what a space derives from them."""

import pytest

from cscdarts.spaces import (
    DARTS,
    NASBENCH201,
    CellPlan,
    DartsGenotype,
    MacroSkeleton,
    ReductionPlan,
    is_large,
    size_step,
)
from cscdarts.spaces.known import KNOWN_GENOTYPES


def test_darts_on_small_images() -> None:
    """quark0/darts: a stem of 3c, reductions at 1/3 and 2/3, four nodes in an output, the auxiliary head after the
    second."""
    plan = DARTS.plan(6, 16, large_images=False)
    assert (plan.stem, plan.large_stem, plan.features, plan.auxiliary_after) == (48, False, 4 * 64, 4)
    cells = [block for block in plan.blocks if isinstance(block, CellPlan)]
    assert [cell.kind for cell in cells] == ["normal", "normal", "reduce", "normal", "reduce", "normal"]
    assert [cell.channels for cell in cells] == [16, 16, 32, 32, 64, 64]
    assert [cell.inputs for cell in cells] == [(48, 48), (48, 64), (64, 64), (64, 128), (128, 128), (128, 256)]
    assert [cell.halved for cell in cells] == [False, False, False, True, False, True]


def test_darts_on_large_images() -> None:
    """The second stem halves its input again, so the first cell's older input is twice as large."""
    plan = DARTS.plan(3, 16, large_images=True)
    assert (plan.stem, plan.large_stem) == (16, True)
    assert [block.halved for block in plan.blocks if isinstance(block, CellPlan)] == [True, False, True]


@pytest.mark.parametrize(("cells", "kinds"), [(1, "r"), (2, "rr"), (3, "nrr"), (4, "nrrn"), (8, "nnrnnrnn")])
def test_reductions_of_few_cells(cells: int, kinds: str) -> None:
    assert (
        "".join(block.kind[0] for block in DARTS.plan(cells, 8, False).blocks if isinstance(block, CellPlan)) == kinds
    )


def test_nasbench201() -> None:
    """AutoDL-Projects: three stages of N cells, blocks that double the channels between them."""
    for large in (False, True):
        plan = NASBENCH201.plan(2, 16, large)
        assert plan.blocks[2] == ReductionPlan(16, 32)
        assert plan.blocks[5] == ReductionPlan(32, 64)
        assert [block.outputs for block in plan.blocks] == [16, 16, 32, 32, 32, 64, 64, 64]
        assert (plan.stem, plan.large_stem, plan.features, plan.auxiliary_after) == (16, False, 64, None)
    assert NASBENCH201.plan(1, 16, False).normalised_head
    assert not DARTS.plan(1, 16, False).normalised_head


def test_a_genotype_may_leave_nodes_out_of_its_output() -> None:
    whole = KNOWN_GENOTYPES["DARTS_V2"]
    part = DartsGenotype(whole.normal, (3, 4, 5), whole.reduce, (2, 3, 4, 5))
    plan = DARTS.plan(3, 16, False, part)
    assert [block.outputs for block in plan.blocks] == [3 * 16, 4 * 32, 4 * 64]


def test_where_cells_bring_their_inputs_to_their_own_width() -> None:
    assert DARTS.preprocesses
    assert not NASBENCH201.preprocesses


@pytest.mark.parametrize(("stages", "reductions"), [(1, []), (2, [3]), (3, [2, 4])])
def test_stages(stages: int, reductions: list[int]) -> None:
    plan = MacroSkeleton("cell", stages=stages).plan(6, 4, False, ("n", "r"), 1, {"n": 1, "r": 1})
    assert [at for at, block in enumerate(plan.blocks) if isinstance(block, CellPlan) and block.reduction] == reductions
    assert plan.features == 4 * 2 ** (stages - 1)


def test_large_images_begin_at_96_pixels() -> None:
    assert (is_large(95), is_large(96)) == (False, True)
    assert (size_step(92), size_step(96)) == (4, 32)
