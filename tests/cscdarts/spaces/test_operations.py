"""Records of operations: what they say of an operation holds for its modules."""

import pytest
import torch
from torch import nn

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.operations import discrete_operation
from cscdarts.spaces import OPERATIONS, SPACES, Conv

BUILT_IN = [name for name in OPERATIONS.names() if not OPERATIONS.added(name)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_parameter_free_operations_have_no_parameters(name: str) -> None:
    module = discrete_operation(OPERATIONS[name], 4, 1)
    assert OPERATIONS[name].parameter_free == (not list(module.parameters()))


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_are_those_of_the_module(name: str, stride: int) -> None:
    """Weights and multiply-accumulates read off the parts are those of the convolutions that run."""
    module, found = discrete_operation(OPERATIONS[name], 4, stride), []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        found.append((layer.weight.numel(), layer.weight.numel() * output.shape[2] * output.shape[3]))

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    assert module(torch.randn(1, 4, 8, 8)).shape == (1, 4, 8 // stride, 8 // stride)
    assert [(shape.weights, shape.macs) for shape in OPERATIONS[name].conv_shapes(4, 8, 8, stride) or []] == found


@pytest.mark.parametrize("name", [name for name in BUILT_IN if OPERATIONS[name].parts[0].__class__ is Conv])
def test_normalisations_are_affine_where_asked(name: str) -> None:
    for affine in (False, True):
        norms = [m for m in discrete_operation(OPERATIONS[name], 4, 1, affine).modules() if isinstance(m, BatchNorm)]
        assert norms
        assert all((norm.weight is not None) == affine for norm in norms)


def test_the_special_operations() -> None:
    assert [name for name in BUILT_IN if OPERATIONS[name].is_zero] == ["none"]
    assert [name for name in BUILT_IN if OPERATIONS[name].is_skip] == ["skip_connect"]
    assert [name for name in BUILT_IN if OPERATIONS[name].is_pool] == ["max_pool_3x3", "avg_pool_3x3"]


def test_labels_are_distinct_in_each_space() -> None:
    for space in SPACES.records():
        assert len({OPERATIONS[op].label for op in space.ops}) == len(space.ops)
