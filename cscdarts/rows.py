"""Per-channel arithmetic on channels_last maps seen as matrices: a row for each pixel, a column for each channel.

Few channels make short inner loops, so neighbouring pixels are folded into one row until it holds `_WIDTH` values.
"""

import torch
from torch import Tensor

from cscdarts.normalise import BatchNorm

_WIDTH = 64


def _fold(x: Tensor) -> int:
    """How many pixels of x: (n, c, h, w) share a row."""
    n, c, h, w = x.shape
    fold = 1
    if x.is_contiguous(memory_format=torch.channels_last):  # not if it is a slice of the channels
        while fold * c < _WIDTH and n * h * w % (2 * fold) == 0:
            fold *= 2
    return fold


def _matrices(*maps: Tensor) -> list[Tensor]:
    """Maps (n, c, h, w) in channels_last or channel slices of such -> views (n*h*w/f, f*c), f pixels a row."""
    n, c, h, w = maps[0].shape
    fold = min(_fold(x) for x in maps)
    return [x.permute(0, 2, 3, 1).view(n * h * w // fold, fold * c) for x in maps]


def _spread(values: Tensor, row: Tensor) -> Tensor:
    """values: (c,) -> (f*c,) beside a matrix `row` of f pixels a row."""
    fold = row.shape[1] // values.shape[0]
    return values if fold == 1 else values.repeat(fold)


def _column_sum(m: Tensor, channels: int) -> Tensor:
    total = m.sum(0)
    return total if total.shape[0] == channels else total.view(-1, channels).sum(0)


def channel_sum(x: Tensor) -> Tensor:
    """Sums over n, h, w; (n, c, h, w) -> (c,)."""
    return _column_sum(_matrices(x)[0], x.shape[1])


def channel_dot(x: Tensor, y: Tensor) -> Tensor:
    """Sums of x * y over n, h, w; both (n, c, h, w) -> (c,)."""
    a, b = _matrices(x, y)
    return _column_sum(a * b, x.shape[1])


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift per channel; x: (n, c, h, w), scale and shift: (c,)."""
    out = torch.empty_like(x)
    source, target = _matrices(x, out)
    torch.addcmul(_spread(shift, source), source, _spread(scale, source), out=target)
    return out


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """x * scale per channel; x: (n, c, h, w), scale: (c,)."""
    out = torch.empty_like(x)
    source, target = _matrices(x, out)
    torch.mul(source, _spread(scale, source), out=target)
    return out


def add_scaled_(total: Tensor, x: Tensor, scale: Tensor) -> None:
    """total += x * scale per channel, in place; total and x: (n, c, h, w), scale: (c,)."""
    target, source = _matrices(total, x)
    target.addcmul_(source, _spread(scale, source))


def add_(total: Tensor, shift: Tensor) -> None:
    """total += shift per channel, in place; total: (n, c, h, w), shift: (c,)."""
    (target,) = _matrices(total)
    target.add_(_spread(shift, target))


def statistics(x: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of the batch per channel, both (c,); moves the running statistics if they are tracked.

    x: (n, c, h, w) in channels_last.
    """
    c = x.shape[1]
    (m,) = _matrices(x)
    fold = m.shape[1] // c
    if fold == 1:
        running_mean, running_var = (norm.running_mean, norm.running_var) if norm.track else (None, None)
        mean, var = torch.batch_norm_update_stats(x, running_mean, running_var, norm.momentum)
        return mean, (var + norm.eps).rsqrt_()
    means, variances = torch.batch_norm_update_stats(m.t()[None, :, :, None], None, None, norm.momentum)
    means, variances = means.view(fold, c), variances.view(fold, c)
    mean = means.mean(0)
    var = variances.mean(0) + (means - mean).square_().mean(0)
    if norm.track:
        count = m.shape[0] * fold
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / max(1, count - 1)), norm.momentum)
    return mean, (var + norm.eps).rsqrt_()


def normalised_dot(grad_sum: Tensor, grad: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor) -> Tensor:
    """sum of grad * (x - mean) * inv_std over n, h, w: the gradient of a normalisation's weight, (c,).

    grad, x: (n, c, h, w); grad_sum: (c,), the sum of grad.
    """
    return (channel_dot(grad, x) - mean * grad_sum) * inv_std


def normalisation_gradient(
    grad: Tensor, grad_sum: Tensor, grad_dot: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Tensor | None
) -> Tensor:
    """Gradient of x through y = weight * (x - mean) * inv_std with the batch's own statistics.

        g_x = weight * inv_std * (g - mean(g) - x_hat * mean(g * x_hat)),   x_hat = (x - mean) * inv_std

    Args:
        grad, x: (n, c, h, w); grad_sum: (c,), the sum of grad; grad_dot: (c,), see `normalised_dot`.
        mean, inv_std: (c,); weight: (c,), or None for 1.
    """
    count = x.numel() // x.shape[1]
    of_grad = inv_std if weight is None else inv_std * weight
    of_x = of_grad * inv_std * grad_dot * (-1 / count)
    out = affine(x, of_x, of_grad * grad_sum * (-1 / count) - mean * of_x)
    add_scaled_(out, grad, of_grad)
    return out
