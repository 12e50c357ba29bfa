"""The steps of a search, plainly written: the weights' and, in first and second order, the architecture's.

For `cscdarts.models.reference.ReferenceSupernet`. As in all public code a step computes the gradients of everything,
and the second-order step takes a copy of the model (quark0/darts `cnn/train_search.py`, `cnn/architect.py`).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.models.reference import ReferenceSupernet

Batch = tuple[Tensor, Tensor]


def weight_step(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, clip: float = 5.0) -> None:
    """DARTS's step of the weights: gradients of everything, clipped, SGD."""
    optimizer.zero_grad()
    torch.autograd.backward(F.cross_entropy(model(batch[0]), batch[1]))
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(weights, clip)
    optimizer.step()


def first_order_gradient(model: ReferenceSupernet, valid: Batch) -> list[Tensor]:
    """DARTS's first-order gradient in the architecture: a backward pass through everything."""
    model.zero_grad()
    torch.autograd.backward(F.cross_entropy(model(valid[0]), valid[1]))
    return [p.grad.clone() for p in model.architecture() if p.grad is not None]


def second_order_gradient(
    model: ReferenceSupernet, train: Batch, valid: Batch, optimizer: torch.optim.SGD, xi: float, eps: float = 0.01
) -> list[Tensor]:
    """DARTS's second-order gradient in the architecture, with a copy of the model (quark0/darts `cnn/architect.py`)."""
    group = optimizer.param_groups[0]
    weights, architecture = model.weights(), model.architecture()
    loss = F.cross_entropy(model(train[0]), train[1])
    grads = torch.autograd.grad(loss, weights)
    unrolled = copy.deepcopy(model)
    with torch.no_grad():
        for old, new, grad in zip(weights, unrolled.weights(), grads, strict=True):
            moment = optimizer.state[old].get("momentum_buffer")
            step = grad + group["weight_decay"] * old
            new.sub_(step if moment is None else step + group["momentum"] * moment, alpha=xi)
    torch.autograd.backward(F.cross_entropy(unrolled(valid[0]), valid[1]))
    outer = [p.grad for p in unrolled.architecture() if p.grad is not None]
    direction = [p.grad for p in unrolled.weights() if p.grad is not None]
    distance = eps / torch.linalg.vector_norm(torch.cat([d.flatten() for d in direction]))
    sides = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, along in zip(weights, direction, strict=True):
                weight.add_(along, alpha=float(sign * distance))
        loss = F.cross_entropy(model(train[0]), train[1])
        sides.append(torch.autograd.grad(loss, architecture))
    with torch.no_grad():
        for weight, along in zip(weights, direction, strict=True):
            weight.add_(along, alpha=float(distance))
    return [g - xi * (a - b) / (2 * distance) for g, a, b in zip(outer, *sides, strict=True)]
