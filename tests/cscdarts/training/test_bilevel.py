"""Laws of the architecture step: orders, finite differences, restored weights, untouched statistics."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.data.source import Batch
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import SearchConfig, SupernetConfig
from cscdarts.training.bilevel import ArchitectureStep, plain_autograd
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients

SPACES = ("nasbench201", "darts")


def small_supernet(space: str, **settings: object) -> Supernet:
    torch.manual_seed(0)
    config = SupernetConfig.model_validate(
        {"space": space, "channels": 4, "cells": 3 if space == "darts" else 1, "split_ratio": "1/2", **settings}
    )
    return Supernet(config, classes=3, image_channels=1, identity=config.identity, alpha_std=0.1)


def batches(dtype: torch.dtype = torch.float32) -> tuple[Batch, Batch]:
    draws = torch.Generator().manual_seed(1)

    def batch() -> Batch:
        images = torch.randn(6, 1, 8, 8, generator=draws, dtype=dtype)
        return images, torch.randint(0, 3, (6,), generator=draws)

    return batch(), batch()


def architecture_step(
    supernet: Supernet, momentum: float = 0.9, nesterov: bool = False, forward: object = None, **settings: object
) -> ArchitectureStep:
    config = SearchConfig.model_validate(settings)
    optimizer = torch.optim.SGD(
        supernet.weights(), lr=0.1, momentum=momentum, weight_decay=3e-4, nesterov=nesterov
    )  # fmt: skip
    gradients = SupernetGradients(supernet, forward or supernet, config.amp, config.accumulate, World())  # type: ignore[arg-type]
    return ArchitectureStep(supernet, config, optimizer, gradients)


def take_weight_step(step: ArchitectureStep, batch: Batch) -> None:
    for weight, grad in zip(step.weights, step.gradients(batch, step.weights), strict=True):
        weight.grad = grad
    step.optimizer.step()
    step.optimizer.zero_grad()


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.fixture
def smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softplus for ReLU and average for max pooling: then finite differences have something to converge to."""

    def average(x: Tensor, kernel: int, stride: int | None = None, padding: int = 0, *_: object) -> Tensor:
        return F.avg_pool2d(x, kernel, stride, padding)

    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    monkeypatch.setattr(F, "max_pool2d", average)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("order", [2, "second-exact"])
def test_second_order_with_xi_0_is_first_order(space: str, order: int | str) -> None:
    train, valid = batches()
    supernet = small_supernet(space)
    first = flat(architecture_step(supernet, order=1).gradient(train, valid, lr=0.1))
    second = flat(architecture_step(supernet, order=order, xi=0.0).gradient(train, valid, lr=0.1))
    assert torch.equal(first, second)
    moved = flat(architecture_step(supernet, order=order, xi=0.1).gradient(train, valid, lr=0.1))
    assert not torch.allclose(first, moved)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("nesterov", [False, True])
def test_exact_second_order_is_the_derivative_through_the_unrolled_step(
    space: str, nesterov: bool, smooth: None
) -> None:
    """d/dalpha of L_val(w - xi * SGD's step, alpha), written out by hand and differentiated as a whole."""
    supernet = small_supernet(space).double()
    train, valid = batches(torch.float64)
    xi, momentum, decay = 0.05, 0.9, 3e-4
    step = architecture_step(supernet, momentum, nesterov, order="second-exact", xi=xi)
    with plain_autograd(supernet):
        take_weight_step(step, train)
        found = flat(step.gradient(train, valid, lr=0.1))

        names = {id(parameter): name for name, parameter in supernet.named_parameters()}
        loss = F.cross_entropy(supernet(train[0]), train[1])
        grads = torch.autograd.grad(loss, step.weights, create_graph=True)
        look_ahead = {}
        for weight, grad in zip(step.weights, grads, strict=True):
            decayed = grad + decay * weight
            buffer = momentum * step.optimizer.state[weight]["momentum_buffer"] + decayed
            look_ahead[names[id(weight)]] = weight - xi * (decayed + momentum * buffer if nesterov else buffer)
        alphas = {names[id(a)]: a for a in step.architecture}
        outer = torch.func.functional_call(supernet, {**look_ahead, **alphas}, (valid[0],))
        expected = torch.autograd.grad(F.cross_entropy(outer, valid[1]), step.architecture)
    difference = (found - flat(list(expected))).norm() / found.norm()
    assert float(difference) < 1e-9


@pytest.mark.parametrize("space", SPACES)
def test_finite_difference_converges_to_the_exact_product(space: str, smooth: None) -> None:
    supernet = small_supernet(space).double()
    train, valid = batches(torch.float64)
    errors = []
    with plain_autograd(supernet):
        for eps in (0.1, 0.01, 0.001):
            step = architecture_step(supernet, eps=eps)
            with torch.no_grad():
                kept = [w.clone() for w in step.weights]
            direction, _ = step.look_ahead(train, valid, xi=0.05)
            with torch.no_grad():
                for weight, value in zip(step.weights, kept, strict=True):
                    weight.copy_(value)
            near, exact = flat(step.finite_difference(train, direction)), flat(step.exact_product(train, direction))
            errors.append(float((near - exact).norm() / exact.norm()))
    assert errors[-1] < 1e-4
    # The two-sided difference has error O(eps^2): a tenth of the distance, about a hundredth of the error.
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 10


def test_a_wrong_divisor_would_be_caught(smooth: None) -> None:
    """The peers' slip `/ 2 * eps` scales the product by eps^2; convergence to the exact product excludes it."""
    supernet = small_supernet("nasbench201").double()
    train, valid = batches(torch.float64)
    with plain_autograd(supernet):
        step = architecture_step(supernet, eps=0.01)
        direction = step.gradients(valid, step.weights)
        near, exact = flat(step.finite_difference(train, direction)), flat(step.exact_product(train, direction))
        distance = 0.01 / flat(direction).norm()
        wrong = near * (2 * distance) / 2 * distance
    assert torch.allclose(near, exact, rtol=1e-2, atol=1e-6 * float(exact.abs().max()))
    assert not torch.allclose(wrong, exact, rtol=1e-2)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("order", [1, 2, "second-exact"])
def test_the_step_leaves_weights_statistics_and_flags_as_they_were(space: str, order: int | str) -> None:
    train, valid = batches()
    supernet = small_supernet(space)
    step = architecture_step(supernet, order=order)
    take_weight_step(step, train)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    step.gradient(train, valid, lr=0.1)
    after = supernet.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert all(parameter.requires_grad for parameter in supernet.parameters())
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_weights_are_restored_when_a_pass_fails() -> None:
    train, valid = batches()
    supernet = small_supernet("nasbench201")
    calls = 0

    def failing(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("no memory left")
        out: Tensor = supernet(images)
        return out

    step = architecture_step(supernet, forward=failing, order=2)
    before = [weight.clone() for weight in step.weights]
    with pytest.raises(RuntimeError, match="no memory left"):
        step.gradient(train, valid, lr=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, step.weights, strict=True))


def test_weight_gradients_do_not_touch_alpha_and_the_reverse() -> None:
    train, _ = batches()
    supernet = small_supernet("darts")
    step = architecture_step(supernet)
    both = step.gradients(train, [*step.weights, *step.architecture])
    weights, alphas = step.gradients(train, step.weights), step.gradients(train, step.architecture)
    for one, other in zip(both, [*weights, *alphas], strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_sees_perturbed_weights(precision: str) -> None:
    """Autocast caches cast weights; were the cache to outlive a pass, w+ and w- would give the same gradient."""
    train, valid = batches()
    supernet = small_supernet("nasbench201")
    step = architecture_step(supernet, order=2, eps=1.0, amp=precision)
    product = flat(step.finite_difference(train, step.gradients(valid, step.weights)))
    assert torch.isfinite(product).all()
    assert float(product.abs().max()) > 0


def test_gradients_outlive_the_memory_of_replayed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph writes its gradients where it wrote those of the pass before; here `autograd.grad` does the same."""
    train, valid = batches(torch.float64)
    plain = torch.autograd.grad
    memory: dict[tuple[int, ...], Tensor] = {}

    def replay(loss: Tensor, parameters: list[torch.nn.Parameter], **options: Any) -> tuple[Tensor, ...]:
        found = plain(loss, parameters, **options)
        held = [memory.setdefault((i, *g.shape), torch.empty_like(g)) for i, g in enumerate(found)]
        return tuple(place.copy_(g) for place, g in zip(held, found, strict=True))

    results = []
    for replayed in (None, True, False):
        step = architecture_step(small_supernet("nasbench201").double(), order=2)
        if replayed is not None:
            monkeypatch.setattr(torch.autograd, "grad", replay)
            step.gradients.replayed = replayed  # type: ignore[attr-defined]
        results.append(flat(step.gradient(train, valid, lr=0.025)))
    assert torch.equal(results[1], results[0])
    assert not torch.equal(results[2], results[0]), "without copies the step would be wrong, and this test see it"


def test_accumulation_averages_the_parts() -> None:
    train, _ = batches()
    supernet = small_supernet("nasbench201")
    whole = architecture_step(supernet, accumulate=2, batch_size=6)
    parts = architecture_step(supernet)
    halves = [(train[0][:3], train[1][:3]), (train[0][3:], train[1][3:])]
    expected = [parts.gradients(half, parts.weights) for half in halves]
    for found, one, two in zip(whole.gradients(train, whole.weights), *expected, strict=True):
        assert torch.allclose(found, (one + two) / 2, rtol=1e-4, atol=1e-6)


def test_largest_eigenvalue_of_the_hessian(smooth: None) -> None:
    supernet = small_supernet("nasbench201").double()
    _, valid = batches(torch.float64)
    with plain_autograd(supernet):
        step = architecture_step(supernet)
        found = step.hessian_eigenvalue(valid, iterations=200)
        alpha = supernet.alphas["cell"]

        def loss(values: Tensor) -> Tensor:
            logits = torch.func.functional_call(supernet, {"alphas.cell": values}, (valid[0],))
            return F.cross_entropy(logits, valid[1])

        hessian_of: Callable[..., Tensor] = torch.autograd.functional.hessian
        hessian = hessian_of(loss, alpha.detach().clone())
        values = torch.linalg.eigvalsh(hessian.reshape(alpha.numel(), alpha.numel()))
    largest = values[values.abs().argmax()]
    assert found == pytest.approx(float(largest), rel=1e-3)


def test_agreement_at_the_usual_eps_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Kinks of ReLU and max pooling keep float32 differences from converging, so this is printed, not promised."""
    train, valid = batches()
    for eps in (0.01, 0.1, 1.0):
        supernet = small_supernet("darts")
        cosine = architecture_step(supernet, eps=eps).product_cosine(train, valid, lr=0.025)
        with capsys.disabled():
            print(f"\n  eps {eps}: cosine of the finite difference to the exact product {cosine:+.3f}", end="")
        assert -1.001 <= cosine <= 1.001


def test_measurements_of_the_step_leave_weights_and_statistics_as_they_were() -> None:
    train, valid = batches()
    supernet = small_supernet("nasbench201")
    step = architecture_step(supernet)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    step.product_cosine(train, valid, lr=0.025)
    step.hessian_eigenvalue(valid, iterations=1)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert all(parameter.requires_grad for parameter in supernet.parameters())


@pytest.mark.parametrize(("xi", "ahead"), [("lr", 0.025), (0.05, 0.05)])
def test_the_cosine_is_that_of_the_two_products_a_step_ahead(xi: str | float, ahead: float) -> None:
    """v is taken at w' = w - xi d, both products at w."""
    train, valid = batches(torch.float64)
    supernet = small_supernet("nasbench201").double()
    step = architecture_step(supernet, xi=xi, eps=0.5)
    found = step.product_cosine(train, valid, lr=0.025)
    kept = [weight.detach().clone() for weight in step.weights]
    direction, _ = step.look_ahead(train, valid, ahead)
    with torch.no_grad():
        for weight, value in zip(step.weights, kept, strict=True):
            weight.copy_(value)
    near, exact = flat(step.finite_difference(train, direction)), flat(step.exact_product(train, direction))
    assert found == pytest.approx(float(near @ exact / (near.norm() * exact.norm())), rel=1e-6)


def test_a_direction_of_nothing_has_no_product() -> None:
    """The validation loss does not depend on the weights: eps / ||v|| is not defined, H v is 0."""
    train, _ = batches()
    step = architecture_step(small_supernet("nasbench201"))
    product = flat(step.finite_difference(train, [torch.zeros_like(weight) for weight in step.weights]))
    assert torch.equal(product, torch.zeros_like(product))


@pytest.mark.parametrize("order", [1, 2, "second-exact"])
def test_a_kind_of_cell_that_no_cell_has_gets_a_gradient_of_0(order: int | str) -> None:
    """One cell of a DARTS supernet is a reduction cell: alpha of the normal cell reaches no logit."""
    train, valid = batches()
    supernet = small_supernet("darts", cells=1)
    assert [cell.plan.kind for cell in supernet.cells] == ["reduce"]  # type: ignore[union-attr]
    found = dict(
        zip(supernet.alphas, architecture_step(supernet, order=order).gradient(train, valid, lr=0.1), strict=True)
    )
    assert torch.equal(found["normal"], torch.zeros_like(found["normal"]))
    assert bool((found["reduce"] != 0).any())


@pytest.mark.parametrize("order", [1, 2])
def test_a_sampled_cell_that_none_cuts_off_teaches_alpha_nothing(order: int) -> None:
    """One operation an edge, and all of them `none`: no logit hangs on alpha, and the step goes on."""
    train, valid = batches()
    supernet = small_supernet("nasbench201", split_ratio=1, identity="none")
    supernet.relaxation.weighting = "gumbel-hard"
    with torch.no_grad():
        supernet.alphas["cell"][:, supernet.config.ops.index("none")] = 9.0  # type: ignore[union-attr]
    (found,) = architecture_step(supernet, order=order).gradient(train, valid, lr=0.1)
    assert torch.equal(found, torch.zeros_like(found))
