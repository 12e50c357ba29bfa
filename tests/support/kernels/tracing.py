"""What a step would do on a device, traced on shapes alone: operations launched, bytes kept for the backward pass.

On torch's meta device nothing has a value, so a step that ends there never waits for one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cscdarts.models.mixed_ops import Kernels
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig, SearchConfig, SupernetConfig
from cscdarts.settings.overrides import with_values
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients, clip

Step = Literal["weight", "alpha, first order", "alpha, second order"]

#: Views that their schemas do not say, allocations, marks of the profiler: nothing of these is launched.
_NOTHING = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"),
    *("_unsafe_view", "_reshape_alias", "_record_function_enter_new", "_record_function_exit"),
}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that are launched inside, views and allocations left out.

    Attributes:
        operations: how often each was.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if not func.is_view and name not in _NOTHING:
            self.operations[str(func)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.operations.values())


def kept_bytes(loss: Callable[[], Tensor], parameters: Any) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass of `loss()`, but the parameters'."""
    ignored = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in ignored:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss()
    total = sum(storage.nbytes() for storage in kept.values())
    del value
    return total


@dataclass(frozen=True)
class Case:
    """A supernet and a batch."""

    space: str
    ratio: str
    cells: int
    batch: int = 16

    @property
    def config(self) -> SupernetConfig:
        """Of the supernet, 16 channels and no identity."""
        values = {"space": self.space, "split_ratio": self.ratio, "cells": self.cells, "channels": 16}
        named = {f"supernet.{name}": value for name, value in values.items()}
        return with_values(RunConfig(), {**named, "supernet.identity": "none"}).supernet

    def images(self) -> tuple[Tensor, Tensor]:
        """A batch of CIFAR's shape, without values."""
        return torch.empty(self.batch, 3, 32, 32, device="meta"), torch.empty(
            self.batch, dtype=torch.long, device="meta"
        )


def reference(case: Case) -> ReferenceSupernet:
    """The edge-by-edge supernet on the meta device."""
    with torch.device("meta"):
        return ReferenceSupernet(case.config, 10)


def engine(case: Case, kernels: Kernels) -> Supernet:
    """The engine's supernet on the meta device."""
    with torch.device("meta"):
        model = Supernet(case.config, 10)
    model.use(kernels)
    return model


def reference_launches(case: Case) -> Launches:
    """A weight step edge by edge, clipped and stepped as our own."""
    model, (images, labels) = reference(case), case.images()
    weights = model.weights()
    optimizer = _sgd(weights)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(images), labels))
        clip(weights, 5.0)
        optimizer.step()

    return _counted(step)


def launches(case: Case, kernels: Kernels, step: Step = "weight") -> Launches:
    """A step of the engine."""
    model, (images, labels) = engine(case, kernels), case.images()
    weights = model.weights()
    optimizer = _sgd(weights)
    gradients = SupernetGradients(model, model, "none", 1, World())
    architecture = ArchitectureStep(
        model, SearchConfig(order=2 if step == "alpha, second order" else 1), optimizer, gradients
    )

    def weight_step() -> None:
        for parameter, grad in zip(weights, gradients((images, labels), weights), strict=True):
            parameter.grad = grad
        clip(weights, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    def alpha_step() -> None:
        architecture.gradient((images, labels), (images, labels), 0.025)

    return _counted(weight_step if step == "weight" else alpha_step)


def kept_by(model: Supernet | ReferenceSupernet, case: Case, chosen: list[nn.Parameter]) -> int:
    """Bytes kept where the chosen parameters learn."""
    wanted = {id(p) for p in chosen}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in wanted)
    images, labels = case.images()
    return kept_bytes(lambda: F.cross_entropy(model(images), labels), [*model.parameters(), images, labels])


def _sgd(weights: list[nn.Parameter]) -> torch.optim.SGD:
    """The weights' optimiser after its first step, which makes its buffers, as CUDA takes it: many tensors a launch."""
    optimizer = torch.optim.SGD(weights, 0.025, 0.9, weight_decay=3e-4, foreach=True)
    for weight in weights:
        optimizer.state[weight]["momentum_buffer"] = torch.empty_like(weight)
    return optimizer


def _counted(step: Callable[[], None]) -> Launches:
    counted = Launches()
    with counted:
        step()
    return counted
