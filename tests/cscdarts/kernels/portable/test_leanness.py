"""Launches and kept bytes of the portable mixed operations, held on shapes alone; no step waits for a value."""

import pytest

from cscdarts.kernels.portable.arithmetic import TORCH
from cscdarts.kernels.portable.choice import given
from tests.support.kernels.tracing import Case, Step, engine, kept_by, launches, reference, reference_launches

DARTS, QUARTER, NASBENCH201 = Case("darts", "1", 3), Case("darts", "1/4", 3), Case("nasbench201", "1", 1)
STEPS: tuple[Step, ...] = ("weight", "alpha, first order", "alpha, second order")


@pytest.mark.parametrize(
    ("case", "by_torch", "by_triton"),
    [
        pytest.param(DARTS, 0.23, 0.17, id="darts", marks=pytest.mark.slow),
        pytest.param(QUARTER, 0.24, 0.18, id="darts, ratio 1/4", marks=pytest.mark.slow),
        pytest.param(NASBENCH201, 0.29, 0.20, id="nasbench201"),
    ],
)
def test_a_weight_step_launches_a_fraction_of_what_the_edges_launch(
    case: Case, by_torch: float, by_triton: float
) -> None:
    whole = reference_launches(case).total
    with given(TORCH):
        torch_share = launches(case, "portable").total / whole
    triton_share = launches(case, "portable").total / whole
    assert torch_share <= by_torch
    assert triton_share <= by_triton


@pytest.mark.parametrize(
    ("case", "most"),
    [
        pytest.param(Case("darts", "1", 8), 0.24, id="darts", marks=pytest.mark.slow),
        pytest.param(Case("darts", "1/4", 8), 0.30, id="darts, ratio 1/4", marks=pytest.mark.slow),
        pytest.param(Case("nasbench201", "1", 5), 0.20, id="nasbench201"),
    ],
)
def test_the_backward_pass_keeps_a_fraction_of_what_the_edges_keep(case: Case, most: float) -> None:
    plain = reference(case)
    whole = kept_by(plain, case, list(plain.parameters()))
    model = engine(case, "portable")
    for chosen in (model.weights(), model.architecture()):
        with given(TORCH):
            assert kept_by(model, case, chosen) / whole <= most
        assert kept_by(model, case, chosen) / whole <= most


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_no_step_waits_for_a_value(space: str, step: Step) -> None:
    """The meta device has none to give: what would wait for one fails there."""
    counted = launches(Case(space, "1/2", 3 if space == "darts" else 1), "portable", step)
    assert counted.total > 0
    assert not {name for name in counted.operations if "_local_scalar_dense" in name or "_to_copy" in name}
