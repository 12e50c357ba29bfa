"""`cscdarts.kernels.portable.arithmetic.Arithmetic` with statistics of a batch that several processes share.

Each holds an equal part of the batch. Statistics of all maps that are normalised together are one message, and so are
the sums of their way back; plain autograd sends one for each normalisation and direction.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.portable.arithmetic import (
    BackItem,
    Item,
    MapGrads,
    Term,
    TorchArithmetic,
    factor_gradients,
    flowing_into,
    rectified_maps,
)


class SynchronisedArithmetic(TorchArithmetic):
    """See the module; in training only."""

    def normalise(self, items: Sequence[Item]) -> tuple[list[Term], list[Tensor]]:
        """See `Arithmetic.normalise`."""
        local = []
        for item in items:
            var, mean = torch.var_mean(_whole(item.map), (0, 2, 3), correction=0)
            local += [mean, var + mean * mean]
        shared = iter(_averages(local))
        terms = []
        for item, mean, square in zip(items, shared, shared, strict=False):
            var = (square - mean * mean).clamp_min_(0)
            eps, count = item.norms[0].eps, item.map.numel() // item.map.shape[1]
            k = len(item.norms)
            for norm, own_mean, own_var in zip(item.norms, mean.chunk(k), var.chunk(k), strict=True):
                norm.track_batch(own_mean, own_var, count * torch.distributed.get_world_size())
            statistics = Statistics(mean, (var + eps).rsqrt_())
            terms.append(Term(item.map, statistics, _affine(item.map, statistics, item.weight), on=item.on))
        first, item = terms[0], items[0]
        assert first.weighted is not None
        return terms, rectified_maps(first.weighted, len(item.norms), item.on) if item.on else []

    def normalised(self, p: Tensor, statistics: Statistics, eps: float) -> Tensor:
        """See `Arithmetic.normalised`."""
        return _affine(p, statistics, None)

    def rectify(self, p: Tensor, statistics: Statistics, eps: float, k: int, on: int) -> list[Tensor]:
        """See `Arithmetic.rectify`."""
        return rectified_maps(_affine(p, statistics, None), k, on)

    def normalise_backward(
        self, grad: Tensor, items: Sequence[BackItem], sources: Sequence[Tensor], rectified: Sequence[Tensor],
        wanted: Sequence[tuple[bool, bool]],
    ) -> list[MapGrads]:  # fmt: skip
        """See `Arithmetic.normalise_backward`."""
        return _through(flowing_into(grad, items, sources, rectified), items, wanted)

    def shared_backward(
        self, grad: Tensor, factors: Tensor, maps: Sequence[Tensor], statistics: Sequence[Statistics | None]
    ) -> list[Tensor]:
        """See `Arithmetic.shared_backward`."""
        parts = factor_gradients(grad, factors)
        normed = [number for number, own in enumerate(statistics) if own is not None]
        items = [
            BackItem(maps[number], own, own.mean.new_ones(own.mean.shape))
            for number in normed
            if (own := statistics[number]) is not None
        ]
        found = _through([parts[number] for number in normed], items, [(True, False)] * len(items)) if items else []
        for number, through in zip(normed, found, strict=True):
            assert through.map is not None
            parts[number] = through.map
        return parts


SYNCHRONISED = SynchronisedArithmetic()


def _through(
    grads: Sequence[Tensor], items: Sequence[BackItem], wanted: Sequence[tuple[bool, bool]]
) -> list[MapGrads]:  # fmt: skip
    local, hats = [], []
    for grad, item in zip(grads, items, strict=True):
        hat = (_whole(item.map) - item.statistics.mean[:, None, None]) * item.statistics.inv_std[:, None, None]
        whole = _whole(grad)
        local += [whole.sum((0, 2, 3)), (whole * hat).sum((0, 2, 3))]
        hats.append(hat)
    # Means over the processes of sums over their parts; the weights' own gradients are averaged where all others are.
    shared = iter(_averages(local))
    found = []
    for grad, item, hat, dots, (of_map, of_weight), total, product in zip(
        grads, items, hats, local[1::2], wanted, shared, shared, strict=False
    ):
        through = None
        if of_map:
            count = item.map.numel() // item.map.shape[1]
            centred = _whole(grad) - (total / count)[:, None, None] - hat * (product / count)[:, None, None]
            through = (centred * (item.weight * item.statistics.inv_std)[:, None, None]).to(item.map.dtype)
        found.append(MapGrads(through, dots if of_weight else None))
    return found


def _averages(local: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Averages over all processes, in one message."""
    flat = torch.cat(list(local))
    torch.distributed.all_reduce(flat)
    return (flat / torch.distributed.get_world_size()).split_with_sizes([len(part) for part in local])


def _affine(p: Tensor, statistics: Statistics, weight: Tensor | None) -> Tensor:
    scale = statistics.inv_std if weight is None else statistics.inv_std * weight
    shift = -statistics.mean * scale
    return torch.addcmul(shift[:, None, None], _whole(p), scale[:, None, None]).to(p.dtype)


def _whole(p: Tensor) -> Tensor:
    """Half-precision maps in single precision, in which sums over them are taken."""
    return p.float() if p.dtype in (torch.float16, torch.bfloat16) else p
