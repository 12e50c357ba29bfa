"""Each kind of operation alone: its values and gradients are those of plain autograd, and it keeps what it says."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import ConvBN, SharedMap
from cscdarts.kernels.cpu.conv_chain import ConvChain
from cscdarts.kernels.cpu.pointwise import PointwiseConv
from cscdarts.kernels.cpu.shared_map import SharedMapKernel
from cscdarts.kernels.kernel import Kernel, Needs, NodeInput
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.packing import pack

N, C, EDGES, SIZE = 3, 16, 2, 8


def random_map(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last)


def stage(kernel: int, depthwise: bool, stride: int = 1, dilation: int = 1, channels: int = C) -> ConvBN:
    generator = torch.Generator().manual_seed(kernel)

    def weight(inputs: int, size: int) -> Tensor:
        return torch.randn(
            EDGES, channels, inputs, size, size, generator=generator, dtype=torch.float64
        ).requires_grad_()

    depth = weight(1, kernel) if depthwise else None
    point = weight(channels, 1 if depthwise else kernel)
    padding = dilation * ((kernel - 1) // 2)
    return ConvBN(depth, point, BatchNorm(EDGES * channels, affine=False).double(), stride, padding, dilation)


#: Kind of operation -> its stages: all shapes that the two spaces have.
KINDS: dict[str, Callable[[], list[ConvBN]]] = {
    "separable 3x3": lambda: [stage(3, True), stage(3, True)],
    "separable 5x5, stride 2": lambda: [stage(5, True, stride=2), stage(5, True)],
    "dilated 3x3": lambda: [stage(3, True, dilation=2)],
    "dilated 5x5, stride 2": lambda: [stage(5, True, stride=2, dilation=2)],
    "plain 3x3": lambda: [stage(3, False)],
    "factorized reduction": lambda: [stage(2, False, stride=2)],
    "product": lambda: [stage(1, False, channels=48)],
    "moments": lambda: [stage(1, False)],
}


def kernel_of(kind: str) -> tuple[Kernel, list[ConvBN]]:
    stages = KINDS[kind]()
    return (PointwiseConv(stages[0]) if kind == "moments" else ConvChain(stages)), stages


def plainly(active: Tensor, stages: Sequence[ConvBN], mixing: Tensor) -> Tensor:
    """w * normalised output of every edge, by torch's own functions."""
    y = active if stages[0].depth is None else torch.cat([active] * EDGES, dim=1)
    for number, s in enumerate(stages):
        y = F.relu(y) if number else y
        if s.depth is not None:
            channels = y.shape[1]
            y = F.conv2d(y, s.depth.flatten(0, 1), None, s.stride, s.padding, s.dilation, channels)
            y = F.conv2d(y, s.point.flatten(0, 1), groups=EDGES)
        else:
            y = F.conv2d(y, s.point.flatten(0, 1), None, s.stride, s.padding)
        y = F.batch_norm(y, None, None, training=True)
    return y * mixing[:, None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_autograd(kind: str) -> None:
    """Whatever is needed, and added in place to a gradient that is there."""
    kernel, stages = kernel_of(kind)
    channels = stages[0].point.shape[1]
    x = random_map(N, channels, SIZE, SIZE)
    active = x.relu().requires_grad_()
    mixing = torch.rand(EDGES * channels, dtype=torch.float64).add(0.5).requires_grad_()
    weights = [weight for weight in kernel.weights if weight is not None]
    expected = plainly(active, stages, mixing)
    grad = random_map(*expected.shape, seed=1)
    grad_active, grad_mixing, *grad_weights = torch.autograd.grad(expected, [active, mixing, *weights], grad)

    with torch.no_grad():
        summand, saved = kernel.forward(NodeInput(x, EDGES))
        mean, inv_std = summand.statistics
        scale = inv_std * mixing
        found = summand.added_to(None, scale, -mean * scale)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
        twice = summand.added_to(found.clone(memory_format=torch.channels_last), scale, -mean * scale)
        unshifted = expected + (mean * scale)[:, None, None]
        assert torch.allclose(twice, expected + unshifted, rtol=1e-9, atol=1e-9), "the shift is added once"

        for needed in product((False, True), repeat=1 + len(weights)):
            own = iter(needed[1:])
            needs = Needs(needed[0], tuple(weight is not None and next(own) for weight in kernel.weights))
            total = random_map(N, channels * (EDGES if kernel.per_edge else 1), SIZE, SIZE).fill_(1)
            for before in (None, total):
                grads = kernel.backward(saved, NodeInput(x, EDGES), grad, mixing, before, needs)
                assert torch.allclose(grads.mixing, grad_mixing, rtol=1e-9, atol=1e-9)
                assert [g is not None for g in grads.weights] == list(needs.weights), needs
                wanted = [g for g, need in zip(grad_weights, needed[1:], strict=True) if need]
                given = [g for g in grads.weights if g is not None]
                assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(given, wanted, strict=True))
                if not needs.input:
                    assert grads.input is before
                    continue
                assert grads.input is not None
                by_edge = grads.input if before is None else grads.input - 1
                summed = sum(by_edge.chunk(EDGES, dim=1)) if kernel.per_edge else by_edge
                assert torch.allclose(torch.as_tensor(summed), grad_active, rtol=1e-9, atol=1e-8), needs
                assert before is None or grads.input.data_ptr() == before.data_ptr(), "in place"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept(kind: str) -> None:
    """One map per stage; of a 1x1 convolution from moments none."""
    kernel, stages = kernel_of(kind)
    x = random_map(N, stages[0].point.shape[1], SIZE, SIZE)
    with torch.no_grad():
        _, saved = kernel.forward(NodeInput(x, EDGES))
    own = {id(weight) for weight in kernel.weights}
    maps = [tensor for tensor in pack(saved)[1] if id(tensor) not in own and tensor.dim() == 4]
    side = SIZE // stages[0].stride
    assert [tuple(m.shape) for m in maps] == [
        (N, EDGES * stages[0].point.shape[1], side, side)
        for _ in (() if kind == "moments" else stages)
    ]  # fmt: skip


SHARED = [
    SharedMap(pool, BatchNorm(C, affine=False).double() if norm else None, stride)
    for pool, norm, stride in product(("max", "avg"), (False, True), (1, 2))
] + [SharedMap(None, None, 1)]


@pytest.mark.parametrize("operation", SHARED, ids=lambda o: f"{o.pool}-{'norm' if o.norm else 'plain'}-{o.stride}")
@pytest.mark.parametrize("mixing_learns", [False, True])
@pytest.mark.parametrize("size", [SIZE, 20])
def test_shared_maps(operation: SharedMap, mixing_learns: bool, size: int) -> None:
    """Values, gradients and what is kept; small images and large ones."""
    x = random_map(N, C, size, size).requires_grad_()
    mixing = torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)
    plain = x
    if operation.pool == "max":
        plain = F.max_pool2d(x, 3, operation.stride, 1)
    elif operation.pool == "avg":
        plain = F.avg_pool2d(x, 3, operation.stride, 1, count_include_pad=False)
    if operation.norm is not None:
        plain = F.batch_norm(plain, None, None, training=True)
    expected = torch.cat([weight * plain for weight in mixing.unbind()], dim=1)
    grad = random_map(*expected.shape, seed=1)
    grad_x, grad_mixing = torch.autograd.grad(expected, (x, mixing), grad)
    parts = [part.contiguous(memory_format=torch.channels_last) for part in grad.chunk(EDGES, dim=1)]

    kernel = SharedMapKernel(operation)
    with torch.no_grad():
        summand, saved = kernel.forward(
            x, EdgeWeights(torch.stack([torch.zeros_like(mixing), mixing])), 1, mixing_learns
        )
        assert (saved.map is None) == (operation.norm is None and not mixing_learns)
        assert (saved.indices is None) == (operation.pool != "max")
        scale, shift = None, torch.zeros(EDGES * C, dtype=torch.float64)
        if summand.statistics is not None:
            scale = summand.statistics.inv_std.repeat(EDGES) * mixing.repeat_interleave(C)
            shift = -summand.statistics.mean.repeat(EDGES) * scale
        found = shift[:, None, None].expand_as(expected).clone(memory_format=torch.channels_last)
        summand.add_to(found.chunk(EDGES, dim=1), scale)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
        for before in (None, torch.ones_like(x)):
            grads = kernel.backward(saved, x, parts, before, (True, mixing_learns))
            assert grads.input is not None
            assert torch.allclose(grads.input - (0 if before is None else 1), grad_x, rtol=1e-9, atol=1e-9)
            assert len(grads.mixing) == (EDGES if mixing_learns else 0)
            if mixing_learns:
                assert torch.allclose(torch.stack(grads.mixing), grad_mixing, rtol=1e-9, atol=1e-9)
        unneeded = kernel.backward(saved, x, parts, None, (False, False))
        assert unneeded.input is None
        assert unneeded.mixing == []
