"""The relaxations of the family: each at its neutral setting is DARTS, each draw has the law it claims."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor
from torch.nn import functional as F

from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_weights import copy_weights
from cscdarts.models.relaxation.mixing import Relaxation, Weighting, expected_weights
from cscdarts.models.relaxation.penalties import penalty, penalty_gradients
from cscdarts.models.supernet import Mixing, Supernet
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces.rules import strengths

ALPHA = torch.tensor([[0.3, -1.2, 2.0, 0.1], [-0.4, 0.0, 0.5, -3.0]], dtype=torch.float64)


def relaxation(weighting: Weighting, temperature: float = 1.0) -> Relaxation:
    """Of one kind of cell with two edges and four operations, of which the second is a skip connection."""
    made = Relaxation(weighting, {"cell": (2, 4)}, [1])
    made.temperature = temperature
    return made


def draws(number: int) -> torch.Generator:
    """The generator of a step."""
    return torch.Generator().manual_seed(number)


def sampled(weighting: Weighting, count: int, **disturbed: float) -> Tensor:
    """Weights of many steps, (count, 2, 4)."""
    made, found = relaxation(weighting), []
    for number in range(count):
        made.draw(draws(number), **disturbed)
        found.append(made("cell", ALPHA))
    return torch.stack(found)


# --- at their neutral setting they are DARTS -----------------------------------------------------


def test_gumbel_without_draws_at_temperature_1_is_softmax() -> None:
    assert torch.equal(relaxation("gumbel")("cell", ALPHA), ALPHA.log_softmax(-1).softmax(-1))
    assert torch.allclose(relaxation("gumbel")("cell", ALPHA), ALPHA.softmax(-1), atol=1e-15)


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_without_noise_and_dropout_a_draw_disturbs_nothing(weighting: Weighting) -> None:
    made = relaxation(weighting)
    made.draw(draws(3), noise=0.0, skip_dropout=0.0)
    once = made("cell", ALPHA)
    assert torch.equal(once, made("cell", ALPHA))  # all passes of a step see one draw
    if not made.samples:
        assert torch.equal(once, expected_weights(weighting, ALPHA))
    made.draw(draws(4), noise=0.5, skip_dropout=0.5)
    made.rest()
    made.draw(draws(3))
    assert torch.equal(made("cell", ALPHA), once)


def test_a_penalty_of_weight_0_moves_nothing() -> None:
    for name in ("zero-one", "log-sum-exp", "none"):
        if name != "none":
            assert not penalty_gradients(name, 0.0, {"cell": ALPHA})[0].any()
    assert float(penalty("none", {"cell": ALPHA})) == 0.0


# --- the draws -----------------------------------------------------------------------------------


def test_hard_samples_have_the_probabilities_of_softmax() -> None:
    found = sampled("gumbel-hard", 4000)
    assert torch.equal(found.sum(-1), torch.ones_like(found.sum(-1)))
    assert set(found.flatten().tolist()) <= {0.0, 1.0}
    for edge in range(2):
        counts = found[:, edge].sum(0).numpy()
        expected = ALPHA[edge].softmax(-1).numpy() * len(found)
        assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_at_a_low_temperature_soft_samples_are_the_hard_ones() -> None:
    soft, hard = relaxation("gumbel", 1e-4), relaxation("gumbel-hard", 1e-4)
    for number in range(20):
        soft.draw(draws(number))
        hard.draw(draws(number))
        assert torch.allclose(soft("cell", ALPHA), hard("cell", ALPHA), atol=1e-6)


def test_hard_samples_pass_the_gradient_of_the_soft_ones() -> None:
    alpha, direction = ALPHA.clone().requires_grad_(), torch.randn(2, 4, dtype=torch.float64)

    def gradient(weighting: Weighting) -> Tensor:
        made = relaxation(weighting, 0.7)
        made.draw(draws(5))
        return torch.autograd.grad((made("cell", alpha) * direction).sum(), alpha)[0]

    assert torch.allclose(gradient("gumbel"), gradient("gumbel-hard"))


def test_dirichlet_draws_have_the_mean_and_variance_of_their_distribution() -> None:
    found = sampled("dirichlet", 4000)
    concentration = F.elu(ALPHA) + 1
    total = concentration.sum(-1, keepdim=True)
    mean = concentration / total
    variance = mean * (1 - mean) / (total + 1)
    error = (found.mean(0) - mean).abs() / (variance / len(found)).sqrt()
    assert float(error.max()) < 4.5
    assert torch.allclose(found.var(0), variance, rtol=0.15)
    assert torch.allclose(found.sum(-1), torch.ones(len(found), 2, dtype=torch.float64))


def test_a_dirichlet_draws_gradient_is_that_of_its_quantiles() -> None:
    """Of two operations the first weight is a Beta(a, b) draw x with F(x; a, b) held: dx/da = -(dF/da) / (dF/dx)."""
    alpha = torch.tensor([[0.4, 1.3]], dtype=torch.float64, requires_grad=True)
    made = Relaxation("dirichlet", {"cell": (1, 2)}, [])
    made.draw(draws(8))
    drawn = made("cell", alpha)
    ours = torch.autograd.grad(drawn[0, 0], alpha)[0][0]
    x, (a, b), step = float(drawn[0, 0].detach()), (F.elu(alpha) + 1)[0].tolist(), 1e-5
    density = stats.beta.pdf(x, a, b)
    by_a = -(special.betainc(a + step, b, x) - special.betainc(a - step, b, x)) / (2 * step) / density
    by_b = -(special.betainc(a, b + step, x) - special.betainc(a, b - step, x)) / (2 * step) / density
    assert ours.tolist() == pytest.approx([by_a, by_b], rel=1e-5)  # alpha > 0, so d(elu + 1)/d alpha = 1


def test_noise_lies_within_its_width_and_is_even() -> None:
    made, shifts = relaxation("softmax"), []
    for number in range(500):
        made.draw(draws(number), noise=0.25)
        shifted = made("cell", ALPHA).log()
        shifts.append(shifted - shifted[:, :1] - (ALPHA - ALPHA[:, :1]))
    found = torch.stack(shifts)  # differences of two uniform draws
    assert float(found.abs().max()) <= 0.5
    assert float(found.abs().max()) > 0.4
    assert abs(float(found[..., 1:].mean())) < 0.02


def test_skip_dropout_keeps_the_expectation_and_leaves_other_operations_alone() -> None:
    found = sampled("softmax", 2000, skip_dropout=0.4)
    plain = ALPHA.softmax(-1)
    assert torch.equal(found[..., [0, 2, 3]], plain[:, [0, 2, 3]].expand(len(found), -1, -1))
    dropped = (found[..., 1] == 0).double().mean(0)
    assert torch.allclose(dropped, torch.full((2,), 0.4, dtype=torch.float64), atol=0.05)
    kept = found[:, 0, 1][found[:, 0, 1] > 0]
    assert torch.allclose(kept, (plain[0, 1] / 0.6).expand(len(kept)))


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_in_evaluation_nothing_is_drawn(weighting: Weighting) -> None:
    made = relaxation(weighting).eval()
    made.draw(draws(1), noise=0.3, skip_dropout=0.3)
    assert torch.equal(made("cell", ALPHA), expected_weights(weighting, ALPHA))


def test_draws_are_no_part_of_the_state() -> None:
    assert relaxation("dirichlet").state_dict() == {}


@pytest.mark.parametrize("weighting", ["softmax", "sigmoid", "dirichlet"])
def test_a_cell_is_derived_from_the_weights_that_are_evaluated(weighting: Weighting) -> None:
    ours: np.ndarray[Any, Any] = expected_weights(weighting, ALPHA).numpy()
    np.testing.assert_allclose(strengths(weighting, ALPHA.numpy()), ours, rtol=1e-12)


# --- penalties -----------------------------------------------------------------------------------


def test_penalties_by_hand() -> None:
    values = {"normal": ALPHA, "reduce": ALPHA + 1}
    sigmoids = torch.cat([ALPHA.flatten(), (ALPHA + 1).flatten()]).sigmoid()
    assert float(penalty("zero-one", values)) == pytest.approx(-float(((sigmoids - 0.5) ** 2).mean()))
    rows = [math.log(sum(math.exp(a) for a in row)) for row in ALPHA.tolist()]
    assert float(penalty("log-sum-exp", values)) == pytest.approx(2 * sum(rows) / 2 + 1)
    by_softmax = penalty_gradients("log-sum-exp", 3.0, values)[0]
    assert torch.allclose(by_softmax, 3 * ALPHA.softmax(-1) / 2)


def test_the_zero_one_loss_drives_sigmoids_apart_and_log_sum_exp_brings_alpha_together() -> None:
    alpha = ALPHA.clone()
    for _ in range(200):
        alpha = alpha - penalty_gradients("zero-one", 10.0, {"cell": alpha})[0]
    assert bool(((alpha.sigmoid() - 0.5).abs() > (ALPHA.sigmoid() - 0.5).abs()).logical_or(ALPHA == 0).all())
    alpha = ALPHA.clone()
    for _ in range(200):
        alpha = alpha - penalty_gradients("log-sum-exp", 1.0, {"cell": alpha})[0]
    assert bool((alpha.std(-1) < ALPHA.std(-1)).all())


# --- one operation an edge -----------------------------------------------------------------------

SPLIT: Mapping[str, dict[str, Any]] = {
    "whole": {"split_ratio": 1},
    "split, identity on edges": {"identity": "edge"},
    "split, edge norm": {"edge_norm": True, "split_ratio": "1/4"},
}


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("values", SPLIT.values(), ids=SPLIT)
def test_a_sampled_path_is_the_reference_supernet_with_these_operations(space: str, values: dict[str, Any]) -> None:
    config = SupernetConfig(space=space, channels=8, cells=3 if space == "darts" else 1, **values)
    identity = values.get("identity", "cell")
    torch.manual_seed(1)
    plain = ReferenceSupernet(config, 5, 3).double()
    fast = Supernet(config, 5, 3, identity, weighting="gumbel-hard").double()
    copy_weights(plain, fast)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for number in range(3):
        fast.relaxation.draw(draws(number))
        mixing: Mixing = {
            kind: (weights.detach(), None if factors is None else factors.detach())
            for kind, (weights, factors) in fast.mixing().items()
        }
        ours, theirs = fast(images), plain(images, mixing)
        assert torch.allclose(ours, theirs, atol=1e-9)
        # Of the weights only those of the sampled operations learn, and as the reference's do.
        of_ours = torch.autograd.grad(ours.square().sum(), fast.weights(), allow_unused=True)
        whole = torch.autograd.grad(fast(images, mixing).square().sum(), fast.weights(), allow_unused=True)
        for got, expected in zip(of_ours, whole, strict=True):
            other = torch.zeros(()) if expected is None else expected
            assert torch.allclose(torch.zeros_like(other) if got is None else got, other, atol=1e-8)


def test_a_sampled_path_moves_the_statistics_of_its_operations_only() -> None:
    config = SupernetConfig(space="nasbench201", channels=8, cells=1, split_ratio=Fraction(1))
    torch.manual_seed(0)
    supernet = Supernet(config, 5, 3, "none", weighting="gumbel-hard")
    supernet.relaxation.draw(draws(2))
    cell = supernet.cells[0]
    before = {name: buffer.clone() for name, buffer in cell.named_buffers() if "running_mean" in name}
    chosen = {kind: weights.argmax(-1).tolist() for kind, (weights, _) in supernet.mixing().items()}["cell"]
    supernet(torch.randn(4, 3, 8, 8))
    assert config.ops is not None
    for source, rows in enumerate(supernet.space.outgoing):
        for op in ("nor_conv_1x1", "nor_conv_3x3"):
            name = f"mixed_ops.{source}.kinds.{op}.norm.running_mean"
            after = dict(cell.named_buffers())[name].view(len(rows), -1)
            moved = (after != before[name].view(len(rows), -1)).any(1).tolist()
            assert moved == [config.ops[chosen[row]] == op for row in rows]


def test_alpha_learns_from_the_sampled_operation_alone() -> None:
    """d loss / d weight of a sampled operation is <d loss / d map, its map>; that of the others is 0."""
    config = SupernetConfig(space="nasbench201", channels=8, cells=1, split_ratio=Fraction(1))
    torch.manual_seed(0)
    supernet = Supernet(config, 5, 3, "none", weighting="gumbel-hard").double()
    supernet.relaxation.draw(draws(2))
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    mixing = supernet.mixing()["cell"][0]
    learned = mixing.detach().clone().requires_grad_()
    whole = torch.autograd.grad(supernet(images, {"cell": (learned, None)}).square().sum(), learned)[0]
    (ours,) = torch.autograd.grad(supernet(images).square().sum(), supernet.architecture())
    hard = mixing.detach()
    (expected,) = torch.autograd.grad((mixing * (whole * hard)).sum(), supernet.architecture())
    assert torch.allclose(ours, expected, atol=1e-9)
