"""A 1x1 convolution and its normalisation without the map between them.

All edges that leave a node convolve the same map. With its N pixels as rows of a: (N, c) and the d = e*c filters as rows of
W: (d, c), mean m and covariance K = a^T a / N - m m^T of a give those of p = a W^T, and so the normalised map is a product:

    mean(p) = W m,   var(p) = diag(W K W^T),   w * p_hat = a (s W)^T - s W m,   s = w / sqrt(var(p) + eps)

Backwards, with the gradient g: (N, d), t = sum(g) over pixels, G = g^T a - t m^T and r = 1 / sqrt(var(p) + eps):

    k = sum(g * p_hat) = r * diag(W G^T)
    g_W = s * (G - r * k * W K)
    g_a = g (s W) - (a - m) M - (s * t / N) W,   M = W^T diag(r * s * k / N) W

p is neither kept nor read: four products in place of two and six passes over d channels, and half of what is kept. What
differences of large sums would lose is kept small: moments are summed part by part, the parts and all that follows in
double precision. So 1/std is exact to 1e-7 (torch's batch norm on maps of 16 x 32 x 32 pixels: 4e-6), times what a filter
cancels: the sum over i, j of |W_i W_j| E(a_i a_j), divided by var(p). In these supernets a node is a sum of normalised maps,
so that stays small; it would not on maps whose mean is many times their deviation, or whose channels are nearly equal.
"""

import torch
from torch import Tensor

from cscdarts.kernels import channels_last
from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.conv_bn import ConvBN

#: With fewer channels the calls cost more than the passes they replace, with more the c^2 products do.
_CHANNELS = range(16, 33)
#: Pixels that are summed in single precision.
_PART = 512


def applies(stage: ConvBN) -> bool:
    """Whether a stage is better computed so: a 1x1 convolution alone, on channels neither too few nor too many."""
    return stage.is_product and stage.point.shape[2] in _CHANNELS


def statistics(a: Tensor, filters: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Statistics of the convolution's output from those of its input; moves the running statistics if they are tracked.

    Args:
        a: (n, c, h, w) in channels_last; filters: (d, c).

    Returns:
        mean (d,) and 1/sqrt(var + eps) (d,) of the output, m (c,), and W K (d, c), the last two empty in evaluation.
    """
    if not norm.training:
        none = a.new_empty(0)
        return *channels_last.statistics(a, norm), none, none
    pixels = channels_last.matrix(a, 1)
    count = len(pixels)
    centre = _sums(pixels).div_(count)
    parts = pixels.view(channels_last.halved(count, _PART), -1, a.shape[1])
    moments = torch.bmm(parts.transpose(1, 2), parts).sum(0, dtype=torch.float64)
    covariance = moments.div_(count).addr_(centre, centre, alpha=-1)
    exact = filters.double()
    spread = torch.mm(exact, covariance)
    mean, var = torch.mv(exact, centre).to(a.dtype), (spread * exact).sum(1).clamp_min_(0)
    norm.track_batch(mean, var.to(a.dtype), count)
    return mean, var.add_(norm.eps).rsqrt_().to(a.dtype), centre.to(a.dtype), spread.to(a.dtype)


def weighted(a: Tensor, filters: Tensor, scale: Tensor, shift: Tensor, total: Tensor | None) -> Tensor:
    """total + scale * output per channel, in place; without a total scale * output + shift.

    a: (n, c, h, w), total: (n, d, h, w), both in channels_last; scale, shift: (d,).
    """
    factors = (filters * scale[:, None]).t()
    if total is None:
        return channels_last.as_map(torch.addmm(shift, channels_last.matrix(a, 1), factors), a)
    channels_last.matrix(total, 1).addmm_(channels_last.matrix(a, 1), factors)
    return total


def gradients(
    grad: Tensor,
    a: Tensor,
    filters: Tensor,
    kept: tuple[Tensor, Tensor, Tensor],
    weight: Tensor,
    added: Tensor | None,
    need: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Walk back through convolution, normalisation with the batch's statistics, and mixing weight.

    Args:
        grad: (n, d, h, w); a: (n, c, h, w), both in channels_last.
        kept: m, W K and r of `statistics`.
        weight: (d,) mixing weights w.
        added: (n, c, h, w) in channels_last, to which g_a is added in place, or None.
        need: whether the gradients of a and of the filters are asked for.

    Returns:
        added + g_a (n, c, h, w) and g_W (d, c), or None, and k, (d,): the mixing weights' gradient, channel by channel.
    """
    centre, spread, inv_std = kept
    pixels, g = channels_last.matrix(a, 1), channels_last.matrix(grad, 1)
    total = _sums(g).to(g.dtype)
    products = _across_pixels(g, pixels).addr_(total, centre, alpha=-1)
    dot = (filters * products).sum(1).mul_(inv_std)
    if not any(need):
        return None, None, dot
    scale = inv_std * weight
    reach = inv_std * dot
    grad_filters = (products - spread * reach[:, None]).mul_(scale[:, None]) if need[1] else None
    if not need[0]:
        return None, grad_filters, dot
    share = -1 / len(pixels)
    scaled = filters * scale[:, None]
    back = torch.mm((scaled * (reach * share)[:, None]).t(), filters)
    shift = torch.mv(scaled.t(), total).mul_(share).sub_(torch.mv(back, centre))
    if added is None:
        grad_input = torch.addmm(shift, pixels, back)
    else:
        channels_last.add_(added, shift)
        grad_input = channels_last.matrix(added, 1).addmm_(pixels, back)
    return channels_last.as_map(grad_input.addmm_(g, scaled), a), grad_filters, dot


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
