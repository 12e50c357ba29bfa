"""A 1x1 convolution and its normalisation without the map between them.

All edges that leave a node convolve the same map. With its N pixels as rows of a: (N, c) and the d = e*c filters as
rows of W: (d, c), mean m and covariance K = a^T a / N - m m^T of a give those of p = a W^T, and so the normalised map
is a product:

    mean(p) = W m,   var(p) = diag(W K W^T),   w * p_hat = a (s W)^T - s W m,   s = w / sqrt(var(p) + eps)

Backwards, with the gradient g: (N, d), t = sum(g) over pixels, G = g^T a - t m^T and r = 1 / sqrt(var(p) + eps):

    k = sum(g * p_hat) = r * diag(W G^T)
    g_W = s * (G - r * k * W K)
    g_a = g (s W) - (a - m) M - (s * t / N) W,   M = W^T diag(r * s * k / N) W

p is neither kept nor read: four products in place of two and six passes over d channels, and half of what is kept. What
differences of large sums would lose is kept small: moments are summed part by part, the parts and all that follows in
double precision. So 1/std is exact to 1e-7 (torch's batch norm on maps of 16 x 32 x 32 pixels: 4e-6), times what a
filter cancels: the sum over i, j of |W_i W_j| E(a_i a_j), divided by var(p). In these supernets a node is a sum of
normalised maps, so that stays small; it would not on maps whose mean is many times their deviation, or whose channels
are nearly equal.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import ConvBN
from cscdarts.kernels.cpu import channels_last
from cscdarts.kernels.kernel import Grads, Needs, NodeInput, Statistics

#: With fewer channels the calls cost more than the passes they replace, with more the c^2 products do.
_CHANNELS = range(16, 33)
#: Pixels that are summed in single precision.
_PART = 512


class Moments(NamedTuple):
    """Statistics of a 1x1 convolution's output, from those of its input.

    Attributes:
        output: statistics of the output, of its d channels.
        centre, spread: m (c,) and W K (d, c); None in evaluation, which has no backward pass.
    """

    output: Statistics
    centre: Tensor | None
    spread: Tensor | None


class ProductSummand(NamedTuple):
    """A map as the product that gives it; see `kernel.Summand`.

    Attributes:
        a: (n, c, h, w) in channels_last; filters: (d, c).
        statistics: of the product's d channels.
    """

    a: Tensor
    filters: Tensor
    statistics: Statistics

    def added_to(self, total: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
        """See `kernel.Summand.added_to`."""
        factors = (self.filters * scale[:, None]).t()
        if total is None:
            return channels_last.as_map(torch.addmm(shift, channels_last.matrix(self.a, 1), factors), self.a)
        channels_last.matrix(total, 1).addmm_(channels_last.matrix(self.a, 1), factors)
        return total


class PointwiseConv:
    """ReLU, 1x1 convolution, normalisation from the moments of the input; see `kernel.Kernel`.

    Args:
        stage: the only stage of the operation, one that `suits`.
    """

    class Saved(NamedTuple):
        """What is kept.

        Attributes:
            point: (e, c, c, 1, 1), the filters.
            centre, spread: of `Moments`; inv_std: (d,), 1/sqrt(var + eps) of the output.
        """

        point: Tensor
        centre: Tensor | None
        spread: Tensor | None
        inv_std: Tensor

    per_edge = False

    def __init__(self, stage: ConvBN) -> None:
        self.stage = stage

    @staticmethod
    def suits(stage: ConvBN) -> bool:
        """Whether a stage is better computed so: a 1x1 convolution alone, on channels neither too few nor too many."""
        return stage.is_pointwise and stage.point.shape[2] in _CHANNELS

    @property
    def weights(self) -> list[Tensor | None]:
        """No depthwise weight, and the filters."""
        return [None, self.stage.point]

    def forward(self, inputs: NodeInput) -> tuple[ProductSummand, Saved]:
        """See `kernel.Kernel.forward`."""
        a, point = inputs.relu, self.stage.point
        filters = point.view(-1, a.shape[1])
        output, centre, spread = moments(a, filters, self.stage.norm)
        return ProductSummand(a, filters, output), self.Saved(point, centre, spread, output.inv_std)

    def backward(
        self, saved: Saved, inputs: NodeInput, grad: Tensor, mixing: Tensor, total: Tensor | None, needs: Needs
    ) -> Grads:
        """See `kernel.Kernel.backward`."""
        assert saved.centre is not None
        assert saved.spread is not None
        a, need_filters = inputs.relu, needs.weights[1]
        filters = saved.point.view(-1, a.shape[1])
        pixels, g = channels_last.matrix(a, 1), channels_last.matrix(grad, 1)
        sums = _sums(g).to(g.dtype)
        products = _across_pixels(g, pixels).addr_(sums, saved.centre, alpha=-1)
        dot = (filters * products).sum(1).mul_(saved.inv_std)
        scale = saved.inv_std * mixing
        inv_std_dot = saved.inv_std * dot
        grad_point: Tensor | None = None
        if need_filters:
            grad_point = (products - saved.spread * inv_std_dot[:, None]).mul_(scale[:, None]).view_as(saved.point)
        if not needs.input:
            return Grads(total, [None, grad_point], dot)
        per_pixel = -1 / len(pixels)
        scaled = filters * scale[:, None]
        projection = torch.mm((scaled * (inv_std_dot * per_pixel)[:, None]).t(), filters)
        shift = torch.mv(scaled.t(), sums).mul_(per_pixel).sub_(torch.mv(projection, saved.centre))
        if total is None:
            grad_a = torch.addmm(shift, pixels, projection)
        else:
            channels_last.add_(total, shift)
            grad_a = channels_last.matrix(total, 1).addmm_(pixels, projection)
        return Grads(channels_last.as_map(grad_a.addmm_(g, scaled), a), [None, grad_point], dot)


def moments(a: Tensor, filters: Tensor, norm: BatchNorm) -> Moments:
    """Statistics of the convolution's output from those of its input; moves the running statistics if they are tracked.

    Args:
        a: (n, c, h, w) in channels_last; filters: (d, c).

    In evaluation, the running ones.
    """
    if not norm.training:
        return Moments(channels_last.statistics(a, norm), None, None)
    pixels = channels_last.matrix(a, 1)
    count = len(pixels)
    centre = _sums(pixels).div_(count)
    parts = pixels.view(channels_last.halved(count, _PART), -1, a.shape[1])
    squares = torch.bmm(parts.transpose(1, 2), parts).sum(0, dtype=torch.float64)
    covariance = squares.div_(count).addr_(centre, centre, alpha=-1)
    exact = filters.double()
    spread = torch.mm(exact, covariance)
    mean, var = torch.mv(exact, centre).to(a.dtype), (spread * exact).sum(1).clamp_min_(0)
    norm.track_batch(mean, var.to(a.dtype), count)
    output = Statistics(mean, var.add_(norm.eps).rsqrt_().to(a.dtype))
    return Moments(output, centre.to(a.dtype), spread.to(a.dtype))


def _across_pixels(g: Tensor, a: Tensor) -> Tensor:
    """g^T a, g: (N, d), a: (N, c) -> (d, c); a part for each thread, as the library shares tall products badly."""
    parts = channels_last.halved(len(g), len(g) // torch.get_num_threads())
    if parts == 1:
        return torch.mm(g.t(), a)
    return torch.bmm(g.view(parts, -1, g.shape[1]).transpose(1, 2), a.view(parts, -1, a.shape[1])).sum(0)


def _sums(m: Tensor) -> Tensor:
    """Sums of a matrix's columns in double precision; by far the quickest way is a product with ones."""
    parts, columns = channels_last.halved(len(m), _PART), m.shape[1]
    sums = torch.mv(m.view(-1, parts * columns).t(), m.new_ones(len(m) // parts))
    return sums.view(parts, columns).sum(0, dtype=torch.float64)
