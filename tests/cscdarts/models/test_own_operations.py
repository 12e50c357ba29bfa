"""Operations of users in the supernet: their parts, their own modules, and their cost."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.cost import operation_convs
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.operations import OperationPerEdge, discrete_operation
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces import (
    SPACES,
    Conv,
    ConvShape,
    MacroSkeleton,
    Operation,
    Pool,
    register_operation,
    register_space,
)
from tests.support.models.equality import assert_equal_step, images, in_double, randomize
from tests.support.own_space import tree_space


class Twice(nn.Module):
    """2 x, for known answers."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_mixing_an_operation_of_ones_own_is_a_weighted_sum(own_operation: list[str]) -> None:
    """m(x) = w_0 conv(x) + w_1 2 x: values and gradients of weights and input, in a pass that keeps little and a plain
    one."""
    register_operation(Operation("twice", "2x", module=lambda channels, stride, affine: Twice()))
    own_operation.append("twice")
    torch.manual_seed(0)
    ops, x = ("twice", "nor_conv_3x3"), torch.randn(2, 4, 6, 6, dtype=torch.float64)
    mixed, alone = MixedOps(ops, 3, 4, 1).double(), MixedOps(("nor_conv_3x3",), 3, 4, 1).double()
    alone.load_state_dict({key: value for key, value in mixed.state_dict().items() if "nor_conv" in key})
    weights = torch.rand(3, 2, dtype=torch.float64)
    for plain in (False, True):
        mixed.plain = alone.plain = plain
        results = []
        for model, columns in ((mixed, [0, 1]), (alone, [1])):
            at, w = x.clone().requires_grad_(), weights.clone().requires_grad_()
            outputs = torch.stack(list(model(at, model.mixing_weights(w[:, columns]))))
            if columns == [1]:
                outputs = outputs + torch.stack([w[edge, 0] * 2 * at for edge in range(3)])
            grads = torch.autograd.grad((outputs * torch.arange(outputs.numel()).view_as(outputs)).sum(), (at, w))
            results.append((outputs, *grads))
        for ours, known in zip(*results, strict=True):
            torch.testing.assert_close(ours, known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "record",
    [
        Operation("sep_conv_7x7", "sep 7×7", (Conv(7, depthwise=True), Conv(7, depthwise=True))),
        Operation("sep_conv_3x3_5x5", "sep 3×3 5×5", (Conv(3, depthwise=True), Conv(5, depthwise=True))),
        Operation("dil_conv_3x3_3", "dil 3×3, 3", (Conv(3, depthwise=True, dilation=3),)),
        Operation("dil_conv_full", "dil full", (Conv(3, dilation=2),)),
        Operation("bottleneck", "1×1 3×3", (Conv(1), Conv(3))),
        Operation("max_pool_5x5", "max 5×5", (Pool("max", 5),)),
        Operation("given", "given", module=lambda c, s, a: nn.Sequential(nn.Conv2d(c, c, 1, s), BatchNorm(c, a))),
        Operation("group", "group", (Conv(3),), batched=lambda e, c, s: nn.Conv2d(c, e * c, 3, s, 1, bias=False)),
    ],
    ids=lambda record: record.name,
)
@pytest.mark.parametrize("stride", [1, 2])
def test_parts_say_how_an_operation_is_made(record: Operation, stride: int, own_operation: list[str]) -> None:
    """In the supernet an edge computes what the discrete module of the same weights does, and costs as much."""
    register_operation(record)
    own_operation.append(record.name)
    torch.manual_seed(0)
    edges, channels = 2, 4
    mixed = MixedOps((record.name, "skip_connect"), edges, channels, stride, pool_norm=False).double()
    x = torch.randn(3, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([[1.0, 0.0], [0.5, 0.0]], dtype=torch.float64)
    outputs = mixed(x, mixed.mixing_weights(factors))
    assert [out.shape for out in outputs] == [(3, channels, 8 // stride, 8 // stride)] * edges
    if record.batched is None:
        held = list(mixed.kinds[record.name].parameters()) if record.name in mixed.kinds else []
        apart = isinstance(mixed.kinds[record.name], OperationPerEdge) if held else True
        for edge in range(edges):
            module = discrete_operation(record, channels, stride, affine=False).double()
            own = list(module.parameters())
            stacked = held[edge * len(own) :][: len(own)] if apart else held
            for parameter, values in zip(own, stacked, strict=True):
                parameter.data.copy_(values.detach() if apart else values.detach()[edge])
            known = factors[edge, 0] * module(x)
            torch.testing.assert_close(outputs[edge], known, rtol=1e-9, atol=1e-9)
            direction = torch.randn_like(known)
            found = torch.autograd.grad(outputs[edge], (x, *stacked), direction, retain_graph=True)
            expected = torch.autograd.grad(known, (x, *own), direction)
            torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9)
            for ours, theirs in zip(found[1:], expected[1:], strict=True):
                torch.testing.assert_close(ours if apart else ours[edge], theirs, rtol=1e-9, atol=1e-9)
    traced = network_convs(discrete_operation(record, channels, stride), channels)
    assert sum(conv.macs for conv in operation_convs(record, channels, 8, 8, stride)) == traced


def network_convs(module: nn.Module, channels: int) -> int:
    """Multiply-accumulates of a module on 8x8 maps, counted by a hook on every convolution."""
    found = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        found.append(output.shape[2:].numel() * layer.weight.numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    module(torch.randn(2, channels, 8, 8))
    return sum(found)


def test_a_cost_that_an_operation_gives_itself() -> None:
    record = Operation(
        "own", "own", module=lambda c, s, a: Twice(), shapes=lambda c, h, w, s: [ConvShape(c, c, 3, c, h * w, h * w)]
    )
    (conv,) = operation_convs(record, 4, 8, 8, 1)
    assert conv.macs == 8 * 8 * 4 * 9


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"pool_norm": True, "output": "last"},
        {"skeleton": MacroSkeleton("cell", stages=2, stem_factor=2), "cell_kinds": ("one", "other")},
        {"skeleton": MacroSkeleton("block", large_stem=True), "inputs": 2},
    ],
    ids=["block, concat", "block, last", "cell, concat", "block, two inputs"],
)
def test_the_reference_computes_a_space_of_ones_own(space: dict[str, Any], own_operation: list[str]) -> None:
    """Logits, all gradients and statistics of the fast supernet are those of the edges computed one by one."""
    for record in (
        Operation("given", "given", module=lambda c, s, a: nn.Sequential(nn.Conv2d(c, c, 3, s, 1), BatchNorm(c, a))),
        Operation("sep_conv_1", "sep", (Conv(1, depthwise=True), Conv(3, depthwise=True))),
    ):
        register_operation(record)
        own_operation.append(record.name)
    register_space(tree_space(ops=("none", "skip_connect", "avg_pool_3x3", "given", "sep_conv_1"), **space))
    try:
        values = {"space": "tree", "channels": 8, "cells": 2, "identity": "edge", "edge_norm": True}
        config = SupernetConfig.model_validate(values)
        reference = in_double(lambda: ReferenceSupernet(config, 5, 3))
        fast = in_double(lambda: Supernet(config, 5, 3, "edge"))
        randomize(reference)
        assert_equal_step(reference, fast, images(3, 8))
    finally:
        SPACES.unregister("tree")
