"""Costs against a count of what plain torch layers do in a real pass, and the width that fits a limit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cscdarts.errors import UserError
from cscdarts.models.cost import Cost, fit_channels, network_cost, operation_convs, supernet_cost
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_network import ReferenceNetwork
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces import ConvShape, Operation, parse_genotype

NASBENCH = parse_genotype("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|")
DARTS = parse_genotype(
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 0), ('max_pool_3x3', 2)], "
    "normal_concat=range(2, 4), reduce=[('skip_connect', 0), ('avg_pool_3x3', 1), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 2)], reduce_concat=range(2, 4))"
)


def counted(model: nn.Module, size: int, image_channels: int, batch: int) -> tuple[int, int]:
    """(MACs for one image, float32 bytes of inputs, outputs and weights of a batch) of all layers with weights."""
    macs = moved = 0

    def on_layer(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, moved
        weight = layer.weight
        assert isinstance(weight, Tensor)
        images = len(output)
        # Each output is a sum over one filter; a linear layer's map has one pixel.
        macs += output.numel() // images * weight[0].numel()
        moved += 4 * (batch * (given[0].numel() + output.numel()) // images + weight.numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(on_layer)
    with torch.no_grad():
        model.eval()(torch.zeros(2, image_channels, size, size))
    return macs, moved


def supernet_config(space: str, **values: Any) -> SupernetConfig:
    sizes = {"channels": 8, "cells": 3 if space == "darts" else 1, "bypass_reduce": "avg"}
    return SupernetConfig.model_validate({"space": space, **sizes, **values})


@pytest.mark.parametrize(
    ("space", "values", "skips"),
    [
        ("nasbench201", {"split_ratio": "1/2", "identity": "cell"}, 0),
        ("nasbench201", {"split_ratio": "1/4", "split_pick": "random", "identity": "none"}, 0),
        # Channels of the 8 strided edges of the first and of the second reduction cell that a skip connection reads.
        ("darts", {"split_ratio": "1/2", "identity": "cell"}, 8 * (8 * 15 + 16 * 7)),
        ("darts", {"split_ratio": 1, "identity": "edge"}, 2 * 8 * (16 * 15 + 32 * 7)),
    ],
)
def test_a_supernet_costs_what_all_operations_of_all_edges_cost(space: str, values: dict[str, Any], skips: int) -> None:
    """Counted on the reference, which holds every operation of every edge as plain layers.

    Of a skip connection at stride 2 the record lets both convolutions read the whole map, 15 or 7 pixels of which (its
    first row and column) the second does not see.
    """
    config = supernet_config(space, **values)
    found = supernet_cost(config, config.identity, 7, 2, 8, batch=3)
    reference = ReferenceSupernet(config, 7, 2)
    if config.split_pick == "random":
        reference.draw_channels(torch.Generator())
    assert (found.macs, found.memory_access_bytes - 4 * 3 * skips) == counted(reference, 8, 2, 3)
    assert found.params == sum(weight.numel() for weight in reference.weights())


@pytest.mark.parametrize("size", [8, 96])
@pytest.mark.parametrize("identity", ["none", "cell", "edge"])
@pytest.mark.parametrize("split", [False, True])
def test_a_network_costs_what_its_layers_cost(size: int, identity: str, split: bool) -> None:
    """Without the auxiliary head, which computes in training alone; large images have another stem."""
    supernet = supernet_config("darts", identity=identity, identity_phases="eval")
    evaluation = EvaluationConfig(channels=8, cells=3, split_eval=split)
    found = network_cost(DARTS, evaluation, supernet, identity, 7, 2, size, batch=3)
    reference = ReferenceNetwork(DARTS, evaluation, supernet, 7, 2, size >= 96)
    assert (found.macs, found.memory_access_bytes) == counted(reference, size, 2, 3)
    assert found.params == sum(p.numel() for name, p in reference.named_parameters() if "auxiliary" not in name)
    one = network_cost(DARTS, evaluation, supernet, identity, 7, 2, size)
    assert one.memory_access_bytes == counted(reference, size, 2, 1)[1]
    assert found.by_operation == {"fixed": found.memory_access_bytes}


def test_a_supernets_memory_access_is_told_by_operation() -> None:
    """By hand on the 6 edges of one NAS-Bench-201 cell a stage, of 8, 16 and 32 channels on 8x8, 4x4 and 2x2 maps."""
    config = supernet_config("nasbench201", split_ratio=1, identity="none")
    found: Cost = supernet_cost(config, "none", 7, 2, 8, batch=3)
    stages = ((8, 64), (16, 16), (32, 4))
    for op, kernel in (("nor_conv_1x1", 1), ("nor_conv_3x3", 9)):
        moved = sum(3 * 2 * c * pixels + kernel * c * c for c, pixels in stages)
        assert found.by_operation[op] == 4 * 6 * moved
    assert found.memory_access_bytes == sum(found.by_operation.values())
    assert sorted(op for op, moved in found.by_operation.items() if moved) == ["fixed", "nor_conv_1x1", "nor_conv_3x3"]


def test_an_operation_that_tells_no_shapes_is_counted_by_a_pass_through_its_module() -> None:
    def module(channels: int, stride: int, affine: bool) -> nn.Module:
        assert not affine
        return nn.Sequential(nn.Conv2d(channels, channels, 3, stride, 1), nn.Conv2d(channels, channels, 1, groups=2))

    own = Operation("two convolutions", "2", module=module)
    assert sorted(operation_convs(own, 4, 8, 6, 2), key=lambda conv: -conv.kernel) == [
        ConvShape(4, 4, 3, 1, 48, 12), ConvShape(4, 4, 1, 2, 12, 12),
    ]  # fmt: skip


# --- the width that fits --------------------------------------------------------------------------


def fits(limit: float, split: bool = False, ratio: str = "1/2") -> int:
    evaluation = EvaluationConfig(cells=1, split_eval=split)
    return fit_channels(
        NASBENCH, evaluation, supernet_config("nasbench201", split_ratio=ratio), "none", 7, 2, 8, limit_macs=limit
    )  # fmt: skip


def macs(channels: int, split: bool = False) -> int:
    evaluation = EvaluationConfig(channels=channels, cells=1, split_eval=split)
    return network_cost(NASBENCH, evaluation, supernet_config("nasbench201", split_ratio="1/2"), "none", 7, 2, 8).macs


@pytest.mark.parametrize("channels", [2, 4, 8, 14])
def test_a_limit_is_the_last_number_that_fits(channels: int) -> None:
    assert fits(macs(channels)) == channels
    assert fits(macs(channels + 2) - 1) == channels


def test_a_split_that_stays_needs_eight_channels() -> None:
    """An eighth of them is operated on at the smallest ratio; without the split, or at ratio 1, two are enough."""
    assert fits(macs(8, split=True), split=True) == 8
    assert fits(macs(2), split=True, ratio="1") == 2
    with pytest.raises(UserError):
        fits(macs(8, split=True) - 1, split=True)


def test_a_limit_that_nothing_fits_is_told_with_the_least() -> None:
    least = macs(2)
    with pytest.raises(UserError) as caught:
        fits(least - 1)
    assert str(caught.value) == (
        f"evaluation.fit_macs_m: {(least - 1) / 1e6} is not valid; allowed: at least {least / 1e6:.2f}. "
        "Raise the limit."
    )
