"""pytest-benchmark cases of the hot parts.

`pytest tests/cscdarts/kernels/test_timings.py --benchmark-enable -p no:xdist` times them.
In an ordinary test run each is called once and not timed.
"""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from cscdarts.kernels.cpu import depthwise
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.spaces.space import SPACES

#: (space, edges, channels, side of the map): ratio 1 and 1/4 at C=16, NAS-Bench-201.
SIZES = [("darts", 4, 16, 32), ("darts", 4, 64, 8), ("darts", 4, 4, 32), ("nasbench201", 3, 16, 32)]


@pytest.fixture(autouse=True)
def _off_unless_asked(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_enable"):
        benchmark.disabled = True


@pytest.mark.parametrize(("space", "edges", "channels", "size"), SIZES)
@pytest.mark.parametrize("step", ["weight", "alpha"])
def test_mixed_ops(
    benchmark: BenchmarkFixture, space: str, edges: int, channels: int, size: int, step: str
) -> None:  # fmt: skip
    layer = MixedOps(SPACES[space].ops, edges, channels, 1, pool_norm=space == "darts")
    layer.requires_grad_(step == "weight")
    batch = 16 if benchmark.enabled else 2
    x = torch.randn(batch, channels, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.full((edges, len(layer.ops)), 1 / len(layer.ops), requires_grad=step == "alpha")
    wanted = [x, *layer.parameters()] if step == "weight" else [x, weights]
    grads = benchmark(lambda: torch.autograd.grad(torch.stack(layer(x, layer.mixing_weights(weights))).sum(), wanted))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_depthwise_weight_gradient(benchmark: BenchmarkFixture, kernel: int, dilation: int) -> None:
    batch = 16 if benchmark.enabled else 1
    x, grad = (torch.randn(batch, 64, 32, 32).contiguous(memory_format=torch.channels_last) for _ in range(2))
    found = benchmark(depthwise.weight_gradient, grad, x, kernel, 1, dilation * (kernel // 2), dilation)
    assert found.shape == (64, 1, kernel, kernel)
