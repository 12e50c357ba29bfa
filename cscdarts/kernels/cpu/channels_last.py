"""Per-channel arithmetic on channels_last maps seen as matrices: one row per pixel, one column per channel.

Few channels make short inner loops, so neighbouring pixels are folded into one row until it holds about `_WIDTH`
values.
"""

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.kernel import Statistics

_WIDTH = 48
#: Several threads share the sums over the pixels of a map well if it has at least `_MANY` values in rows of about
#: `_SHARED_WIDTH`; a single thread gains nothing.
_MANY, _SHARED_WIDTH = 2**18, 512
#: From this number of channels on, statistics are quick without folding.
_WIDE_ENOUGH = 32
#: Values in a vector register; torch's batch norm is slow on a number of channels that it does not divide.
_LANES = 16
#: From this number of values on, walking back through a normalisation in two passes is quicker than in one library
#: call.
_LARGE = 2**19
#: torch sums a column of a channels_last map value by value in single precision; longer columns are summed in parts.
_LONG = 4096


def matrix(x: Tensor, fold: int | None = None) -> Tensor:
    """x: (n, c, h, w) in channels_last -> a view (n*h*w/f, f*c), f pixels per row, by default as many as `_WIDTH` asks
    for."""
    assert x.is_contiguous(memory_format=torch.channels_last)
    width = (_fold(x) if fold is None else fold) * x.shape[1]
    return x.as_strided((x.numel() // width, width), (width, 1))


def halved(count: int, longest: int, parts: int = 1) -> int:
    """Number of equal parts, doubled until no part of `count` is longer than `longest`.

    Fewer where the count cannot be halved that often.
    """
    while count // parts > longest and count % (2 * parts) == 0:
        parts *= 2
    return parts


def as_map(m: Tensor, like: Tensor) -> Tensor:
    """m: (n*h*w, d), one row per pixel of `like`: (n, c, h, w) -> (n, d, h, w) in channels_last."""
    n, _, h, w = like.shape
    return m.view(n, h, w, m.shape[1]).permute(0, 3, 1, 2)


def flat(x: Tensor) -> Tensor:
    """x: (n, c, h, w) in channels_last -> its values in the order of memory, a view (n*h*w*c,)."""
    return x.as_strided((x.numel(),), (1,))


def _fold(x: Tensor, width: int = _WIDTH) -> int:
    """How many pixels of x fill a row of `width` values."""
    return halved(x.numel() // x.shape[1], x.numel() // width)


def _is_shared(x: Tensor) -> bool:
    """Whether more than one thread takes part in a sum over x, and gains by it."""
    return x.numel() >= _MANY and torch.get_num_threads() > 1


def _fold_of_sums(x: Tensor) -> int:
    """How many pixels of x fill a row where columns are summed."""
    return _fold(x, _SHARED_WIDTH if _is_shared(x) else _WIDTH)


def _as_one_map(m: Tensor) -> Tensor:
    """A matrix (rows, columns) as what torch's batch norm takes: a map of one image (1, columns, rows, 1)."""
    return m.t()[None, :, :, None]


def _across(values: Tensor, m: Tensor) -> Tensor:
    """values: (c,) -> (f*c,), as the columns of a matrix of f pixels per row."""
    fold = m.shape[1] // values.shape[0]
    return values if fold == 1 else values.expand(fold, -1).reshape(-1)


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift per channel; x: (n, c, h, w), scale and shift: (c,)."""
    out = torch.empty_like(x)
    source = matrix(x)
    torch.addcmul(_across(shift, source), source, _across(scale, source), out=matrix(out))
    return out


def normalised(x: Tensor, batch: Statistics) -> Tensor:
    """(x - mean) / sqrt(var + eps) per channel; x: (n, c, h, w)."""
    return affine(x, batch.inv_std, -batch.mean * batch.inv_std)


def add_(x: Tensor, shift: Tensor) -> None:
    """x += shift per channel, in place; x: (n, c, h, w) in channels_last, shift: (c,)."""
    target = matrix(x)
    target.add_(_across(shift, target))


def add_scaled_(total: Tensor, x: Tensor, scale: Tensor) -> None:
    """total += x * scale per channel, in place; maps (n, c, h, w), total may be a slice of channels; scale: (c,)."""
    if total.is_contiguous(memory_format=torch.channels_last):
        target = matrix(total)
        target.addcmul_(matrix(x), _across(scale, target))
    else:
        total.permute(0, 2, 3, 1).addcmul_(x.permute(0, 2, 3, 1), scale)


def statistics(x: Tensor, norm: BatchNorm) -> Statistics:
    """Mean and 1/sqrt(var + eps) of the batch per channel, both (c,); moves the running statistics if they are tracked.

    In evaluation, of the running statistics. x: (n, c, h, w) in channels_last.
    """
    if not norm.training:
        return Statistics(norm.running_mean, (norm.running_var + norm.eps).rsqrt_())
    c = x.shape[1]
    as_it_lies = (c % _LANES == 0 or c >= _WIDE_ENOUGH) and not _is_shared(x)
    fold = 1 if as_it_lies else _fold_of_sums(x)
    pixels = x.numel() // c
    fold = halved(pixels, _LONG, fold)
    if fold == 1:
        running_mean, running_var = (norm.running_mean, norm.running_var) if norm.track else (None, None)
        mean, var = torch.batch_norm_update_stats(x, running_mean, running_var, norm.momentum)
        return Statistics(mean, var.add_(norm.eps).rsqrt_())
    means, variances = torch.batch_norm_update_stats(_as_one_map(matrix(x, fold)), None, None, norm.momentum)
    between, mean = torch.var_mean(means.view(fold, c), 0, correction=0)
    var = between.add_(variances.view(fold, c).mean(0))
    norm.track_batch(mean, var, pixels)
    return Statistics(mean, var.add_(norm.eps).rsqrt_())


def normalisation_gradient(
    grad: Tensor, x: Tensor, batch: Statistics, weight: Tensor | None, wanted: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Walk back through y = weight * x_hat, x_hat = (x - mean) * inv_std, with the batch's own statistics.

        g_x = weight * inv_std * (g - mean(g) - x_hat * mean(g * x_hat))

    Args:
        grad, x: (n, c, h, w) in channels_last; batch: statistics of x; weight: (c,), or None for 1.
        wanted: whether g_x is asked for.

    Returns:
        g_x or None, and the sum over all pixels of g * x_hat, (c,): the weight's gradient.
    """
    mean, inv_std = batch
    c = mean.shape[0]
    if c % _LANES == 0 and x.numel() < _LARGE:
        grad_x, dot, _ = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inv_std, True, 0.0, [wanted, True, True]
        )
        return grad_x if wanted else None, dot
    fold = _fold_of_sums(x)
    m, g = matrix(x, fold), matrix(grad, fold)
    _, dot, total = torch.ops.aten.native_batch_norm_backward(
        _as_one_map(g),
        _as_one_map(m),
        None,
        None,
        None,
        _across(mean, m),
        _across(inv_std, m),
        True,
        0.0,
        [False, True, True],
    )
    dot, total = dot.view(-1, c).sum(0), total.view(-1, c).sum(0)
    if not wanted:
        return None, dot
    grad_scale = inv_std if weight is None else inv_std * weight
    share = grad_scale * (-c / x.numel())
    value_scale = share * inv_std * dot
    out = affine(x, value_scale, share * total - mean * value_scale)
    add_scaled_(out, grad, grad_scale)
    return out, dot
