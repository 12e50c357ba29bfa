"""The fast routes give what torch's own give: depthwise gradients, pooling, the fused mixed operations."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm, frozen_statistics
from cscdarts.kernels.cpu import channels_last, depthwise, pointwise, pooling
from cscdarts.kernels.kernel import Statistics
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.spaces import DARTS, NASBENCH201, Space


def map_of(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, or two that share what they would share of large maps only."""
    monkeypatch.setattr(channels_last, "_MANY", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["one thread", "two threads", "portable", "portable, not laid out"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The CPU's kernels on one thread, or on two that share what they would share of large maps only; the portable."""
    monkeypatch.setattr(channels_last, "_MANY", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2 if request.param == "two threads" else 1)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 6), (2, 2), (7, 5)])
def test_depthwise_gradients(kernel: int, stride: int, dilation: int, height: int, width: int) -> None:
    if stride == 2 and (height % 2 or width % 2):
        pytest.skip("the supernet halves even maps only")
    padding = dilation * (kernel // 2)
    x = map_of(3, 6, height, width).requires_grad_()
    weight = map_of(6, 1, kernel, kernel, seed=1).requires_grad_()
    y = F.conv2d(x, weight, None, stride, padding, dilation, 6)
    grad = torch.randn_like(y)
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), grad)
    with torch.no_grad():
        found_x = depthwise.input_gradient(grad, x.shape, weight, stride, padding, dilation)
        found_weight = depthwise.weight_gradient(grad, x, kernel, stride, padding, dilation)
    assert torch.allclose(found_x, grad_x, rtol=1e-10, atol=1e-10)
    assert torch.allclose(found_weight, grad_weight, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(18, 18), (4, 17), (8, 8), (6, 3), (5, 5), (2, 2), (1, 1)])
def test_pooling(kind: str, stride: int, height: int, width: int) -> None:
    """Images large and small, ties included: the gradient goes where torch's goes."""
    x = map_of(2, 4, height, width).mul(2).round().requires_grad_()
    if kind == "max":
        expected = F.max_pool2d(x, 3, stride, 1)
    else:
        expected = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    grad = torch.randn_like(expected)
    (grad_x,) = torch.autograd.grad(expected, x, grad)
    with torch.no_grad():
        found, indices = pooling.pool(x, kind, stride)
        found_x = pooling.pool_gradient(grad, x, indices, kind, stride)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found_x, grad_x, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("channels", [4, 12, 16, 48])
def test_normalisation_gradient(channels: int, large: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one pass or by two, in rows of folded pixels or as the map lies."""
    if large:
        monkeypatch.setattr(channels_last, "_LARGE", 0)
    x = map_of(4, channels, 8, 8).add(1).requires_grad_()
    weight = torch.rand(channels, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight = weight.requires_grad_() if weighted else torch.ones(channels, dtype=torch.float64, requires_grad=True)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    inv_std = (var + 1e-5).rsqrt()
    y = (x - mean[:, None, None]) * (inv_std * weight)[:, None, None]
    grad = map_of(4, channels, 8, 8, seed=1).add(0.5)
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), grad)
    batch = Statistics(mean, inv_std)
    with torch.no_grad():
        found, dot = channels_last.normalisation_gradient(grad, x, batch, weight if weighted else None)
        assert found is not None
        assert torch.allclose(found, grad_x, rtol=1e-10, atol=1e-10)
        assert torch.allclose(dot, grad_weight, rtol=1e-10, atol=1e-10)
        channels_last.normalisation_gradient(-grad, x, batch, None)
        assert torch.allclose(found, grad_x, rtol=1e-10, atol=1e-10), "the next call leaves it alone"
        found, dot = channels_last.normalisation_gradient(grad, x, batch, None, wanted=False)
    assert found is None
    assert torch.allclose(dot, grad_weight, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("long", [4096, 16])
@pytest.mark.parametrize("channels", [4, 12, 16, 48])
def test_statistics(channels: int, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts or whole, of few channels or many: those of torch's batch norm, running ones included."""
    monkeypatch.setattr(channels_last, "_LONG", long)
    x = map_of(4, channels, 8, 6).add(1)
    ours, theirs = BatchNorm(channels, affine=False).double(), nn.BatchNorm2d(channels, affine=False).double()
    mean, inv_std = channels_last.statistics(x, ours)
    expected = theirs(x)
    assert torch.allclose((x - mean[:, None, None]) * inv_std[:, None, None], expected, rtol=1e-10, atol=1e-10)
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=1e-10, atol=1e-12)
    assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-10, atol=1e-12)


def test_batch_norm_with_an_expanded_weight() -> None:
    """torch on the CPU gives wrong values for a stride-0 weight on channels_last maps: ours makes it contiguous."""
    x = map_of(2, 8, 4, 4).float()
    layer = BatchNorm(8, affine=False)
    weight = torch.tensor(0.3)
    expected = F.batch_norm(x.contiguous(), None, None, training=True) * 0.3
    assert torch.allclose(layer(x, weight.expand(8)), expected, atol=1e-6)


@pytest.mark.parametrize("edges", [1, 3])
def test_statistics_of_a_product_without_its_map(edges: int) -> None:
    """Those of the map itself, in single precision to 1e-6, with the running ones; in evaluation the running ones."""
    a = map_of(8, 16, 16, 8).relu()
    filters = torch.randn(16 * edges, 16, dtype=torch.float64)
    ours, theirs = BatchNorm(16 * edges, affine=False), BatchNorm(16 * edges, affine=False).double()
    (mean, inv_std), *_ = pointwise.moments(a.float(), filters.float(), ours)
    p = F.conv2d(a, filters[:, :, None, None])
    expected_mean, expected = channels_last.statistics(p.contiguous(memory_format=torch.channels_last), theirs)
    assert torch.allclose(inv_std.double(), expected, rtol=1e-6, atol=0)
    assert torch.allclose(mean * inv_std, (expected_mean * expected).float(), rtol=0, atol=1e-6)
    assert torch.allclose(ours.running_mean.double(), theirs.running_mean, atol=1e-6)
    assert torch.allclose(ours.running_var.double(), theirs.running_var, rtol=1e-6)
    (mean, inv_std), *_ = pointwise.moments(a.float(), filters.float(), ours.eval())
    assert mean is ours.running_mean
    assert torch.allclose(inv_std, (ours.running_var + ours.eps).rsqrt())


def test_a_product_of_constant_maps() -> None:
    """Rounding must not take the root of a negative variance; an odd number of pixels is summed in one part."""
    a = torch.full((3, 16, 3, 3), 7.3).contiguous(memory_format=torch.channels_last)
    filters = torch.randn(32, 16)
    (mean, inv_std), *_ = pointwise.moments(a, filters, BatchNorm(32, affine=False))
    assert torch.allclose(mean, 7.3 * filters.sum(1), rtol=1e-4, atol=1e-4)
    assert torch.allclose(inv_std, torch.full((32,), 1e-5).rsqrt(), rtol=0.1)


def mixed_ops(space: Space, edges: int, channels: int, stride: int) -> MixedOps:
    torch.manual_seed(1)
    return MixedOps(space.ops, edges, channels, stride, pool_norm=space is DARTS).double()


def all_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(found, expected, strict=True))


CASES = [
    (DARTS, 3, 6, 1, 8),
    (DARTS, 2, 4, 2, 8),
    (DARTS, 1, 2, 1, 4),
    (DARTS, 4, 16, 1, 4),
    (NASBENCH201, 3, 6, 1, 8),
    (NASBENCH201, 1, 2, 1, 4),
    (NASBENCH201, 1, 16, 1, 4),
    (NASBENCH201, 3, 16, 1, 8),
    (NASBENCH201, 3, 32, 1, 4),
    (NASBENCH201, 2, 48, 1, 4),
]
ALONE = [
    (replace(NASBENCH201, ops=("nor_conv_1x1", "skip_connect")), 2, 16, 1, 4),
    (replace(DARTS, ops=("none", "sep_conv_3x3")), 2, 4, 1, 4),
    (replace(DARTS, ops=("none", "dil_conv_5x5", "skip_connect")), 2, 4, 2, 4),
    (replace(DARTS, ops=("max_pool_3x3", "avg_pool_3x3")), 2, 4, 1, 4),
]


def choose(layer: MixedOps, way: str) -> None:
    """The portable kernels, with weights where they read them or where the CPU's do, or the CPU's."""
    if way == "portable":
        layer.use("portable")
    elif way.startswith("portable"):
        layer.kernels = "portable"


@pytest.mark.parametrize(("space", "edges", "channels", "stride", "size"), [*CASES, *ALONE])
@pytest.mark.parametrize("needed", ["all", "x", "alpha", "weights", "one weight"])
def test_fused_equals_plain(
    space: Space, edges: int, channels: int, stride: int, size: int, needed: str, way: str
) -> None:
    """Outputs, gradients of whatever is needed, and running statistics."""
    fused = mixed_ops(space, edges, channels, stride)
    if "weight" in needed and not list(fused.parameters()):
        pytest.skip("has no weights")
    plain = copy.deepcopy(fused)
    plain.plain = True
    choose(fused, way)
    x = map_of(4, channels, size, size).requires_grad_()
    weights = torch.randn(edges, len(space.ops), dtype=torch.float64).softmax(1).requires_grad_()
    found = []
    for layer in (plain, fused):
        own = list(layer.parameters())
        wanted: dict[str, Sequence[Tensor]] = {
            "all": [x, weights, *own], "x": [x], "alpha": [weights], "weights": own, "one weight": own[-1:],
        }  # fmt: skip
        for tensor in (x, weights, *own):
            tensor.requires_grad_(any(tensor is w for w in wanted[needed]))
        y = torch.cat(layer(x, layer.mixing_weights(weights)), dim=1)
        grad = torch.ones_like(y).cumsum(1) / y.shape[1] - 0.3
        found.append([y, *torch.autograd.grad(y * y, wanted[needed], grad), *layer.buffers()])
    assert all_close(*found)


@pytest.mark.parametrize(("space", "edges", "channels", "stride", "size"), CASES)
@pytest.mark.parametrize("per_op", ["all", "one an edge", "none"])
@pytest.mark.parametrize("way", ["one thread", "portable"])
def test_fused_equals_plain_in_evaluation(
    space: Space, edges: int, channels: int, stride: int, size: int, per_op: str, way: str
) -> None:
    """With the running statistics, and for cells of which most operations weigh nothing; nothing moves."""
    fused = mixed_ops(space, edges, channels, stride)
    choose(fused, way)
    x = map_of(4, channels, size, size)
    weights = torch.randn(edges, len(space.ops), dtype=torch.float64).softmax(1)
    fused(x, fused.mixing_weights(weights))  # running statistics of its own
    fused.eval()
    plain = copy.deepcopy(fused)
    plain.plain = True
    if per_op == "one an edge":
        weights = F.one_hot(torch.arange(edges) % 2 + 2, len(space.ops)).double()
    elif per_op == "none":
        weights = F.one_hot(torch.full((edges,), space.ops.index("none")), len(space.ops)).double()
    before = {name: value.clone() for name, value in fused.state_dict().items()}
    with torch.no_grad():
        assert all_close(fused(x, fused.mixing_weights(weights)), plain(x, plain.mixing_weights(weights)))
    assert all(torch.equal(value, before[name]) for name, value in fused.state_dict().items())
    assert all_close(fused(x, fused.mixing_weights(weights)), plain(x, plain.mixing_weights(weights))), (
        "with gradients as well"
    )
    fused.train(), plain.train()
    with torch.no_grad(), frozen_statistics(fused), frozen_statistics(plain):
        assert all_close(fused(x, fused.mixing_weights(weights)), plain(x, plain.mixing_weights(weights))), (
            "with the batch's statistics"
        )
    assert all(torch.equal(value, before[name]) for name, value in fused.state_dict().items())
    with torch.no_grad():
        fused(x, fused.mixing_weights(weights)), plain(x, plain.mixing_weights(weights))
    for name, value in plain.state_dict().items():
        assert torch.allclose(fused.state_dict()[name], value), f"{name}: moves whatever its operation weighs"


@pytest.mark.parametrize("way", ["one thread", "portable"])
def test_the_fused_function_is_differentiated_once(way: str) -> None:
    layer = mixed_ops(DARTS, 2, 4, 1)
    choose(layer, way)
    x = map_of(2, 4, 4, 4)
    weights = torch.full((2, 8), 0.125, dtype=torch.float64, requires_grad=True)
    for plain in (False, True):
        layer.plain = plain
        loss = torch.stack(layer(x, layer.mixing_weights(weights))).square().sum()
        (first,) = torch.autograd.grad(loss, weights, create_graph=True)
        if plain:
            assert torch.autograd.grad(first.sum(), weights)[0].isfinite().all()
        else:
            with pytest.raises(RuntimeError, match=r"once_differentiable|not have been used"):
                torch.autograd.grad(first.sum(), weights)


def test_the_architecture_step_computes_no_weight_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = mixed_ops(DARTS, 2, 4, 1).requires_grad_(False)
    weights = torch.full((2, 8), 0.125, dtype=torch.float64, requires_grad=True)

    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("a weight gradient was computed")

    monkeypatch.setattr(depthwise, "weight_gradient", refuse)
    x = map_of(2, 4, 4, 4).requires_grad_()
    assert all(
        g.isfinite().all()
        for g in torch.autograd.grad(torch.stack(layer(x, layer.mixing_weights(weights))).sum(), (x, weights))
    )
    layer.requires_grad_(True)
    with pytest.raises(AssertionError, match="a weight gradient"):
        torch.autograd.grad(torch.stack(layer(x, layer.mixing_weights(weights))).sum(), list(layer.parameters()))


@pytest.mark.parametrize("way", ["one thread", "portable", "portable, not laid out"])
def test_frozen_statistics_stay(way: str) -> None:
    mixed = mixed_ops(DARTS, 2, 4, 1)
    choose(mixed, way)
    layer = nn.ModuleList([mixed])
    running = [buffer for name, buffer in layer.named_buffers() if "running" in name]
    before = [buffer.clone() for buffer in running]
    weights = torch.full((2, 8), 0.125, dtype=torch.float64)
    with frozen_statistics(layer):
        mixed(map_of(2, 4, 4, 4), mixed.mixing_weights(weights))
    assert all(torch.equal(a, b) for a, b in zip(before, running, strict=True))
    mixed(map_of(2, 4, 4, 4), mixed.mixing_weights(weights))
    assert not any(torch.equal(a, b) for a, b in zip(before, running, strict=True))


def test_none_alone_gives_zeros() -> None:
    layer = MixedOps(("none",), 2, 4, 2)
    found = layer(torch.randn(2, 4, 8, 8), layer.mixing_weights(torch.ones(2, 1)))
    assert [y.shape for y in found] == [(2, 4, 4, 4)] * 2
    assert not any(y.any() for y in found)
