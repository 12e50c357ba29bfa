"""What is counted, against counts by hand and against what a real pass on the CPU does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cscdarts.forecast.counting import Counted, Launch, counting
from cscdarts.forecast.half_precision import HalfPrecision


def named(counted: Counted) -> dict[str, int]:
    found: dict[str, int] = {}
    for launch, times in counted.kinds.items():
        found[launch.name] = found.get(launch.name, 0) + times
    return found


def test_views_and_allocations_are_no_launches() -> None:
    x = torch.empty(4, 6, device="meta")
    with counting([x]) as counted:
        y = x.t().reshape(2, 3, 4)[:, 1:].permute(2, 0, 1).expand(4, 2, 2)
        torch.empty_like(y)
        y.detach().relu()
    assert named(counted) == {"relu": 1}


def test_a_convolution_by_hand() -> None:
    """3x3 on 5x5 pixels, no padding, stride 2: 2x2 outputs; forward, and both gradients as much again each."""
    x = torch.empty(2, 4, 5, 5, device="meta", requires_grad=True)
    weight = torch.empty(6, 2, 3, 3, device="meta", requires_grad=True)
    with counting([x, weight]) as counted:
        y = F.conv2d(x, weight, stride=2, groups=2)
        torch.autograd.backward(y, torch.empty_like(y))
    macs = 2 * 6 * 4 * (2 * 9)
    of = {launch.name: launch for launch in counted.kinds}
    sizes = {"x": 4 * x.numel(), "w": 4 * weight.numel(), "y": 4 * y.numel()}
    assert of["convolution"] == Launch("convolution", sum(sizes.values()), 2 * macs)
    # The gradient of the output, both operands; the two gradients.
    moved = sizes["y"] + 2 * (sizes["x"] + sizes["w"])
    assert of["convolution_backward"] == Launch("convolution_backward", moved, 4 * macs)
    assert counted.flops == 6 * macs
    assert counted.workspace == sizes["x"]
    assert counted.saved == 0  # both operands were there before


def test_depthwise_is_told_and_a_repeated_map_is_read_once() -> None:
    x, weight = torch.empty(1, 4, 6, 6, device="meta"), torch.empty(4, 1, 3, 3, device="meta")
    factor = torch.empty(1, device="meta").expand(1, 4, 6, 6)
    with counting([x, weight]) as counted:
        F.conv2d(x, weight, groups=4)
        x * factor
    first, second = counted.kinds
    assert first.depthwise
    assert second == Launch("mul", 2 * 4 * x.numel() + 4)


def test_products_by_hand() -> None:
    layer = nn.Linear(5, 7, device="meta")
    x = torch.empty(3, 5, device="meta")
    with counting([x, *layer.parameters()]) as counted:
        torch.autograd.backward(layer(x).sum())
    # Forward, and the weight's gradient; the input's is not asked for.
    assert counted.flops == 2 * (3 * 5 * 7) * 2


def test_the_peak_is_what_is_alive_at_once() -> None:
    """One map of 4 KiB each: x held before, its square and the sum of both; the square is freed before the last."""
    x = torch.empty(1024, device="meta")
    with counting([x]) as counted:
        y = x * x
        z = x + y
        del y
        z.relu_()
        z = z * 2
    assert counted.peak == 3 * 4096
    with counting([x]) as counted:
        y, z, last = x * x, x + x, x.relu()
        assert len([y, z, last]) == 3
    assert counted.peak == 4 * 4096


def test_what_is_kept_for_a_backward_pass_is_counted_once() -> None:
    x = torch.empty(1024, device="meta")
    weight = torch.empty(1024, device="meta", requires_grad=True)
    with counting([x, weight]) as counted:
        y = (x * weight).exp()  # keeps x, which was there, and its own result
        z = y * y  # keeps y, which is kept already
        torch.autograd.backward(z.sum())
        del y, z
        (x * weight).exp().sum()  # the first pass is over: nothing is kept twice
    assert counted.saved == 4096


def test_a_look_at_a_value_is_a_wait() -> None:
    x = torch.empty(3, device="meta")
    with counting([x]) as counted:
        assert float(x.sum()) == 1  # nobody knows it
        assert bool((x > 0).any())
    assert counted.host_waits == 2
    with counting([x]) as counted:
        (x * 2).sum()
        torch.tensor(3.0).item()  # the host's own
    assert (counted.host_waits, counted.launches) == (0, 2)


def test_lists_go_in_one_launch_as_on_a_gpu() -> None:
    parameters = [nn.Parameter(torch.empty(3, device="meta")) for _ in range(20)]
    for parameter in parameters:
        parameter.grad = torch.empty(3, device="meta")
    with counting(parameters) as counted:
        nn.utils.clip_grad_norm_(parameters, 5.0)
        torch.optim.SGD(parameters, 0.1, foreach=True).step()
    assert counted.launches < 20
    assert named(counted)["_foreach_norm"] == 1


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5),
    )  # fmt: skip


def test_real_tensors_are_counted_as_those_of_shapes_alone() -> None:
    """The same operators, bytes and peak, and the values that came without a count."""
    counts, gradients = [], []
    for device in ("cpu", "meta", "uncounted"):
        net = _net().to("cpu" if device == "uncounted" else device)
        x = torch.ones(4, 3, 8, 8, device=next(net.parameters()).device)
        labels = torch.zeros(4, dtype=torch.long, device=x.device)
        if device == "uncounted":
            torch.autograd.backward(F.cross_entropy(net(x), labels))
        else:
            with counting([*net.parameters(), *net.buffers(), x, labels]) as counted:
                torch.autograd.backward(F.cross_entropy(net(x), labels))
            counts.append(counted)
        gradients.append([p.grad for p in net.parameters()])
    real, shapes = counts
    assert shapes.launches == real.launches
    assert (shapes.flops, shapes.saved) == (real.flops, real.saved)
    assert shapes.peak == pytest.approx(real.peak, rel=0.02)
    for counted_grad, grad in zip(gradients[0], gradients[2], strict=True):
        assert counted_grad is not None
        assert grad is not None
        assert torch.equal(counted_grad, grad)


def test_half_precision_keeps_what_autocast_keeps() -> None:
    """Bytes kept for the backward pass, against torch's own autocast of the CPU."""
    real, shapes, dtype = _net(), _net().to("meta"), torch.bfloat16
    x, labels = torch.ones(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    with counting([*real.parameters(), *real.buffers(), x, labels]) as counted:
        with torch.autocast("cpu", dtype):
            logits = real(x)
        F.cross_entropy(logits.float(), labels)
    a, b = x.to("meta"), labels.to("meta")
    with counting([*shapes.parameters(), *shapes.buffers(), a, b]) as told:
        with HalfPrecision(dtype):
            logits = shapes(a)
        F.cross_entropy(logits.float(), b)
    assert logits.dtype == dtype
    assert told.saved == counted.saved
    assert told.flops == counted.flops
