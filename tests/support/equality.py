"""Whether a fast model and the reference agree: outputs, all gradients, running statistics."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from cscdarts.models.reference_weights import copy_weights

Model = TypeVar("Model", bound=nn.Module)

#: Largest difference, as a share of the largest value of its tensor.
TOLERANCE = 1e-9


def images(n: int, size: int, seed: int = 3) -> Tensor:
    """Random images (n, 3, size, size) in double precision."""
    return torch.randn(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def copy_all(reference: nn.Module, fast: nn.Module) -> None:
    """Copy weights and statistics, and see that none of the fast model's was left out."""
    stored = fast.state_dict(keep_vars=True)  # draws of a step are no part of it
    for tensor in stored.values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)
    copy_weights(reference, fast)  # type: ignore[arg-type]
    for name, tensor in stored.items():
        assert not tensor.isnan().any(), f"{name} has no counterpart in the reference"


def in_double(build: Callable[[], Model]) -> Model:
    """A model in double precision, without the time that its initialisation takes: its weights are yet to be set."""
    with pytest.MonkeyPatch.context() as patch:
        for layer in (nn.Conv2d, nn.Linear):
            patch.setattr(layer, "reset_parameters", lambda self: None)
        torch.set_default_dtype(torch.float64)
        try:
            return build()
        finally:
            torch.set_default_dtype(torch.float32)


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> None:
    """Give a reference model weights and statistics that no layer starts with.

    Statistics of one size are equal: the fast supernet keeps those of pooled maps once for all edges of a node.
    """
    draw = torch.Generator().manual_seed(seed)
    for tensor in model.parameters():
        tensor.normal_(generator=draw)
        if tensor.dim() == 4:
            tensor.div_(tensor[0].numel() ** 0.5)
    for name, statistic in model.named_buffers():
        if statistic.is_floating_point():
            statistic.normal_(generator=draw.manual_seed(len(statistic)))
        if name.endswith("running_var"):
            statistic.abs_().add_(0.5)


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    """Fail if two tensors differ by more than rounding."""
    assert found.shape == expected.shape, what
    scale = max(1e-3, float(expected.abs().max())) if expected.numel() else 1.0
    difference = float((found - expected).abs().max()) if expected.numel() else 0.0
    assert difference <= TOLERANCE * scale, f"{what}: differs by {difference:.3g} of {scale:.3g}"


def assert_equal_step(
    reference: nn.Module,
    fast: nn.Module,
    x: Tensor,
    before: Callable[[nn.Module], Any] = lambda model: None,
    **given: Any,
) -> None:
    """Compare one training pass in everything it computes or moves, then evaluation.

    Args:
        before: is called with each model before each of its passes, to set generators.
        given: further arguments of both forward passes.
    """
    copy_all(reference, fast)
    steps, kept = [], []
    for model in (reference, fast):
        model.train().zero_grad()
        before(model)
        leaf = x.clone().requires_grad_()
        outputs = _tensors(model(leaf, **given))
        draw = torch.Generator().manual_seed(5)
        weights = [torch.randn(y.shape, generator=draw, dtype=y.dtype) for y in outputs]
        torch.autograd.backward(outputs, weights)
        assert leaf.grad is not None
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        steps.append(([y.detach() for y in outputs], leaf.grad, grads))
        kept.append([b.clone() for _, b in model.named_buffers()])
    (expected, expected_x, expected_grads), (found, found_x, found_grads) = steps
    assert len(found) == len(expected)
    for position, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_close(one, other, f"output {position}")
    assert_close(found_x, expected_x, "gradient of the images")

    # The reference's gradients, arranged as the fast model arranges its weights: copied as if they were weights.
    weights = [p.detach().clone() for p in reference.parameters()]
    with torch.no_grad():
        for parameter, grad in zip(reference.parameters(), expected_grads, strict=True):
            parameter.copy_(grad)
        copy_weights(reference, fast)  # type: ignore[arg-type]
        for (name, arranged), grad in zip(fast.named_parameters(), found_grads, strict=True):
            assert_close(grad, arranged, f"gradient of {name}")
        for (name, statistic), moved in zip(fast.named_buffers(), kept[1], strict=True):
            if statistic.is_floating_point():
                assert_close(moved, statistic, name)
        for parameter, value in zip(reference.parameters(), weights, strict=True):
            parameter.copy_(value)
    assert_equal_evaluation(reference, fast, x, **given)


def assert_equal_evaluation(reference: nn.Module, fast: nn.Module, x: Tensor, **given: Any) -> None:
    """Compare outputs in evaluation mode."""
    copy_all(reference, fast)
    with torch.no_grad():
        expected = _tensors(reference.eval()(x, **given))
        for one, other in zip(_tensors(fast.eval()(x, **given)), expected, strict=True):
            assert_close(one, other, "output in evaluation")


def _tensors(outputs: Any) -> list[Tensor]:
    return [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]
