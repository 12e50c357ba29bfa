"""Per-channel arithmetic of the portable mixed operation: what it asks for, and torch's own functions for it.

Any device has these, and none of them waits for the host. Maps are contiguous, (n, k*e*c, h, w): k operations one after
another, in each e edges of c channels.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import SharedMap
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.portable.levels import follow, joined

_RUNNING = ("running_mean", "running_var")


class Item(NamedTuple):
    """Maps of k operations to be normalised.

    Attributes:
        map: (n, k*e*c, h, w), or (n, c, h, w) where all edges share it.
        norms: of the k operations.
        weight: (k*e*c,), the mixing weights, or None for 1.
        on: how many of the k come first and go on: they are rectified, and no summands.
    """

    map: Tensor
    norms: Sequence[BatchNorm]
    weight: Tensor | None
    on: int = 0


class Term(NamedTuple):
    """Maps on their way into the mixed operations' sums.

    Attributes:
        map: (n, k*e*c, h, w), or (n, c, h, w) where all edges share it, before normalisation.
        statistics: of its channels; None without normalisation, and in evaluation.
        weighted: the same normalised and times `Item.weight`, or None where it is not kept.
        affine: of maps that are not kept so: scale and shift that make it of `map`, or None.
        on: as in `Item`.
    """

    map: Tensor
    statistics: Statistics | None
    weighted: Tensor | None
    affine: tuple[Tensor, Tensor] | None = None
    on: int = 0


class BackItem(NamedTuple):
    """Maps of k operations whose normalisation is walked back through; as in `Item`."""

    map: Tensor
    statistics: Statistics
    weight: Tensor
    on: int = 0


class MapGrads(NamedTuple):
    """Gradients of a map before its normalisation, and channel by channel of its weight; None where not wanted."""

    map: Tensor | None
    weight: Tensor | None


class Arithmetic(Protocol):
    """What the mixed operation does beside convolutions and pooling."""

    def folds(self, operation: SharedMap) -> bool:
        """Whether `weigh` and `gather` take x itself for this map, one of a kind: they average it, or carry it on."""

    def normalise(self, items: Sequence[Item]) -> tuple[list[Term], list[Tensor]]:
        """Normalise with the batch's statistics, moving the running ones that are tracked.

        Returns:
            the terms, and of the first item's operations that go on the rectified maps, (n, e*c, h, w) each.
        """

    def normalised(self, p: Tensor, statistics: Statistics, eps: float) -> Tensor:
        """The normalised map, once more."""

    def rectify(self, p: Tensor, statistics: Statistics, eps: float, k: int, on: int) -> list[Tensor]:
        """The rectified maps of `normalise` once more."""

    def weigh(
        self, x: Tensor, terms: Sequence[Term], shared: Sequence[tuple[SharedMap, Term]], factors: Tensor
    ) -> list[Tensor]:
        """Each edge's sum (n, c, h, w).

        Args:
            terms: with mixing weights; shared: without, with factors: (s, e), their mixing weights.
        """

    def normalise_backward(
        self, grad: Tensor, items: Sequence[BackItem], sources: Sequence[Tensor], rectified: Sequence[Tensor],
        wanted: Sequence[tuple[bool, bool]],
    ) -> list[MapGrads]:  # fmt: skip
        """Walk back through normalisations with the batch's statistics.

        Args:
            grad: (n, e*c, h, w), of the sums.
            sources: gradients of the first item's rectified maps; fewer than these where none is wanted.
            rectified: these maps.
            wanted: of each item, whether the map's gradient is asked for, and the weight's.
        """

    def shared_backward(
        self, grad: Tensor, factors: Tensor, maps: Sequence[Tensor], statistics: Sequence[Statistics | None]
    ) -> list[Tensor]:
        """Gradients of maps that all edges add before their normalisation; factors: (s, e)."""

    def gather(
        self, of_relu: Sequence[Tensor], active: Tensor, parts: Sequence[Tensor], grad: Tensor,
        carried: Tensor | None, averaged: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """The gradient of the node's output x.

        Args:
            of_relu: gradients of active = relu(x); parts: further ones of x itself.
            grad: of the sums; carried, averaged: (e,), mixing weights of maps that it `folds`: x itself, its averages.
        """


class TorchArithmetic:
    """`Arithmetic` by torch's own functions, in training and, forward alone, in evaluation."""

    def folds(self, operation: SharedMap) -> bool:
        """See `Arithmetic.folds`."""
        return False

    def normalise(self, items: Sequence[Item]) -> tuple[list[Term], list[Tensor]]:
        """See `Arithmetic.normalise`."""
        terms = [_normalised(item) for item in items]
        first, item = terms[0], items[0]
        if not item.on:
            return terms, []
        assert first.weighted is not None
        return terms, rectified_maps(first.weighted, len(item.norms), item.on)

    def normalised(self, p: Tensor, statistics: Statistics, eps: float) -> Tensor:
        """See `Arithmetic.normalised`; takes the statistics once more, which costs a pass and no further call."""
        return torch.native_batch_norm(p, None, None, None, None, True, 0.0, eps)[0]

    def rectify(self, p: Tensor, statistics: Statistics, eps: float, k: int, on: int) -> list[Tensor]:
        """See `Arithmetic.rectify`."""
        return rectified_maps(self.normalised(p, statistics, eps), k, on)

    def weigh(
        self, x: Tensor, terms: Sequence[Term], shared: Sequence[tuple[SharedMap, Term]], factors: Tensor
    ) -> list[Tensor]:
        """See `Arithmetic.weigh`."""
        n, c = x.shape[:2]
        edges = factors.shape[1]
        summands: list[Tensor] = []
        for term in terms:
            assert term.weighted is not None
            summands += term.weighted.chunk(term.weighted.shape[1] // (edges * c), dim=1)[term.on :]
        total: Tensor | None = None
        for number, part in enumerate(summands):
            total = part if total is None else total + part if number == 1 else total.add_(part)
        # A single summand may lie between the maps of other operations.
        total = None if total is None else total.contiguous()
        for (_, term), weights in zip(shared, factors.unbind(), strict=True):
            assert term.weighted is not None
            part, each = term.weighted.unsqueeze(1), weights.view(edges, 1, 1, 1).to(x.dtype)
            if total is None:
                total = (part * each).flatten(1, 2)
            else:
                total.view(n, edges, c, *total.shape[2:]).addcmul_(part, each)
        assert total is not None
        parts = total.view(n, edges, c, *total.shape[2:]).unbind(1)
        return list(parts)

    def normalise_backward(
        self, grad: Tensor, items: Sequence[BackItem], sources: Sequence[Tensor], rectified: Sequence[Tensor],
        wanted: Sequence[tuple[bool, bool]],
    ) -> list[MapGrads]:  # fmt: skip
        """See `Arithmetic.normalise_backward`."""
        flowing = flowing_into(grad, items, sources, rectified)
        return [
            _through_normalisation(into, item, of_map, of_weight)
            for into, item, (of_map, of_weight) in zip(flowing, items, wanted, strict=True)
        ]

    def shared_backward(
        self, grad: Tensor, factors: Tensor, maps: Sequence[Tensor], statistics: Sequence[Statistics | None]
    ) -> list[Tensor]:
        """See `Arithmetic.shared_backward`."""
        parts = factor_gradients(grad, factors)
        for number, (part, map_, own) in enumerate(zip(parts, maps, statistics, strict=True)):
            if own is not None:
                through = _through_normalisation(part, BackItem(map_, own, None), True, False).map  # type: ignore[arg-type]
                assert through is not None
                parts[number] = through
        return parts

    def gather(
        self, of_relu: Sequence[Tensor], active: Tensor, parts: Sequence[Tensor], grad: Tensor,
        carried: Tensor | None, averaged: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """See `Arithmetic.gather`."""
        total: Tensor | None = None
        for part in of_relu:
            total = part if total is None else total.add_(part)
        if total is not None:
            total = torch.ops.aten.threshold_backward(total, active, 0)
        for part in parts:
            total = part if total is None else total.add_(part)
        assert total is not None
        return total


TORCH = TorchArithmetic()


def running_in_place(norms: Sequence[BatchNorm]) -> tuple[Tensor, Tensor] | None:
    """Running means and variances of k operations, (d,) each, where they follow one another in memory."""
    means, variances = ([getattr(norm, name) for norm in norms] for name in _RUNNING)
    return (joined(means).flatten(), joined(variances).flatten()) if follow(means) and follow(variances) else None


def _normalised(item: Item) -> Term:
    p, norms, weight, on = item
    first = norms[0]
    if not first.training:
        mean, var = (joined([getattr(norm, name) for norm in norms]).flatten() for name in _RUNNING)
        out = torch.native_batch_norm(p, weight, None, mean, var, False, 0.0, first.eps)[0]
        return Term(p, None, out, on=on)
    running = running_in_place(norms) if first.track else None
    out, mean, inv_std = torch.ops.aten.native_batch_norm(
        p, weight, None, *(running or (None, None)), True, first.momentum, first.eps
    )
    if first.track and running is None:
        var = inv_std.square().reciprocal_().sub_(first.eps)
        for norm, own_mean, own_var in zip(norms, mean.chunk(len(norms)), var.chunk(len(norms)), strict=True):
            norm.track_batch(own_mean, own_var, p.numel() // p.shape[1])
    return Term(p, Statistics(mean, inv_std), out, on=on)


def rectified_maps(normalised: Tensor, k: int, on: int) -> list[Tensor]:
    """relu of the first `on` of k normalised maps (n, k*e*c, h, w): (n, e*c, h, w) each."""
    n, d, h, w = normalised.shape
    out = normalised.new_empty((on, n, d // k, h, w))
    torch.clamp_min(normalised.view(n, k, d // k, h, w)[:, :on].transpose(0, 1), 0, out=out)
    return list(out)


def flowing_into(
    grad: Tensor, items: Sequence[BackItem], sources: Sequence[Tensor], rectified: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of the items' normalised maps, shaped as they are; see `Arithmetic.normalise_backward`."""
    found = []
    for number, item in enumerate(items):
        flowing = _spread(grad, item.map.shape[1] // grad.shape[1], item.on)
        for place, (source, map_) in enumerate(zip(sources, rectified, strict=False) if number == 0 else ()):
            torch.ops.aten.threshold_backward.grad_input(source, map_, 0, grad_input=flowing[:, place])
        found.append(flowing.view_as(item.map))
    return found


def factor_gradients(grad: Tensor, factors: Tensor) -> list[Tensor]:
    """Gradients (n, c, h, w) of what all edges add, times factors: (s, e), to the sums with this gradient."""
    n, d, h, w = grad.shape
    s, edges = factors.shape
    out = grad.new_empty((s, n, d // edges, h, w))
    by_edge = grad.view(n, edges, -1)
    torch.bmm(factors.to(grad.dtype).expand(n, s, edges), by_edge, out=out.view(s, n, -1).transpose(0, 1))
    return list(out)


def _spread(grad: Tensor, k: int, on: int) -> Tensor:
    """The sums' gradient for each of k operations that is a summand, memory for the others: (n, k, e*c, h, w)."""
    n, d, h, w = grad.shape
    if k == 1 and not on:
        return grad.view(n, 1, d, h, w)
    out = grad.new_empty((n, k, d, h, w))
    if on < k:
        out[:, on:].copy_(grad.unsqueeze(1).expand(-1, k - on, -1, -1, -1))
    return out


def _through_normalisation(grad: Tensor, item: BackItem, of_map: bool, of_weight: bool) -> MapGrads:
    mean, inv_std = item.statistics
    through, dots, _ = torch.ops.aten.native_batch_norm_backward(
        grad, item.map, item.weight, None, None, mean, inv_std, True, 0.0, [of_map, of_weight, False]
    )
    return MapGrads(through if of_map else None, dots if of_weight else None)


def shared_dots(grad: Tensor, maps: Sequence[Tensor], edges: int) -> Tensor:
    """Gradients (s, e) of the mixing weights of maps (n, c, h, w) that all edges add, from the sums' one."""
    n = grad.shape[0]
    stacked = torch.stack(list(maps), dim=1).view(n, len(maps), -1)
    whole = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return torch.bmm(stacked, grad.view(n, edges, -1).transpose(1, 2)).sum(0, dtype=whole)
