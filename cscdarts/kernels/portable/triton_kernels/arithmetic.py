"""`cscdarts.kernels.portable.arithmetic.Arithmetic` by Triton: one launch for each of its functions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cscdarts.kernels.candidates import SharedMap
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.portable.arithmetic import TORCH, BackItem, Item, MapGrads, Term, running_in_place
from cscdarts.kernels.portable.triton_kernels import launch


class TritonArithmetic:
    """See the module; in training only. What is rare is left to torch."""

    def folds(self, operation: SharedMap) -> bool:
        """See `Arithmetic.folds`."""
        return operation.pool != "max" and operation.norm is None and operation.stride == 1

    def normalise(self, items: Sequence[Item]) -> tuple[list[Term], list[Tensor]]:
        """See `Arithmetic.normalise`."""
        first = items[0]
        norm = first.norms[0]
        places = [running_in_place(item.norms) for item in items] if norm.track else []
        running = [place for place in places if place is not None]
        if len(running) < len(places):
            return TORCH.normalise(items)  # not laid out
        width = first.map.shape[1] // len(first.norms)
        statistics, rectified = launch.normalise(
            [item.map for item in items], [item.weight for item in items], running or None, first.on * width, width,
            norm.momentum, norm.eps,
        )  # fmt: skip
        terms, begin = [], 0
        for item in items:
            mean, inv_std, scale, shift = statistics[:, begin : begin + item.map.shape[1]]
            begin += item.map.shape[1]
            terms.append(Term(item.map, Statistics(mean, inv_std), None, (scale, shift), item.on))
        return terms, list(rectified) if first.on else []

    def normalised(self, p: Tensor, statistics: Statistics, eps: float) -> Tensor:
        """See `Arithmetic.normalised`."""
        return TORCH.normalised(p, statistics, eps)

    def rectify(self, p: Tensor, statistics: Statistics, eps: float, k: int, on: int) -> list[Tensor]:
        """See `Arithmetic.rectify`."""
        return list(torch.ops.cscdarts.rectify(p, *statistics, on, p.shape[1] // k))

    def weigh(
        self, x: Tensor, terms: Sequence[Term], shared: Sequence[tuple[SharedMap, Term]], factors: Tensor
    ) -> list[Tensor]:
        """See `Arithmetic.weigh`."""
        if any(term.affine is None for term in terms):
            return TORCH.weigh(x, terms, shared, factors)
        averaged: list[Tensor] = []
        rows, maps, affine, normed = [], [], [], []
        for (operation, term), row in zip(shared, factors.unbind(), strict=True):
            if self.folds(operation) and operation.pool == "avg" and not averaged:
                averaged = [x, row]
                continue
            rows.append(row)
            maps.append(term.map)
            normed.append(int(term.affine is not None))
            affine.append(term.affine or (row, row))
        scales, shifts = ([pair[side] for pair in affine] for side in (0, 1))
        own = [term.affine for term in terms if term.affine is not None]
        return torch.ops.cscdarts.weigh(  # type: ignore[no-any-return]
            [term.map for term in terms], [scale for scale, _ in own], [shift for _, shift in own],
            [term.on for term in terms], maps, scales, shifts, normed, rows, averaged,
            x.shape[1], factors.shape[1],
        )  # fmt: skip

    def normalise_backward(
        self, grad: Tensor, items: Sequence[BackItem], sources: Sequence[Tensor], rectified: Sequence[Tensor],
        wanted: Sequence[tuple[bool, bool]],
    ) -> list[MapGrads]:  # fmt: skip
        """See `Arithmetic.normalise_backward`."""
        width = grad.shape[1]
        any_map = any(of_map for of_map, _ in wanted)
        dots, *outs = torch.ops.cscdarts.normalise_backward(
            grad, [item.map for item in items], [item.statistics.mean for item in items],
            [item.statistics.inv_std for item in items], [item.weight for item in items], items[0].on * width,
            list(sources), any_map,
        )  # fmt: skip
        found, begin = [], 0
        for number, (item, (of_map, of_weight)) in enumerate(zip(items, wanted, strict=True)):
            own = dots[begin : begin + item.map.shape[1]]
            begin += item.map.shape[1]
            found.append(MapGrads(outs[number] if of_map else None, own if of_weight else None))
        return found

    def shared_backward(
        self, grad: Tensor, factors: Tensor, maps: Sequence[Tensor], statistics: Sequence[Statistics | None]
    ) -> list[Tensor]:
        """See `Arithmetic.shared_backward`."""
        known = [own for own in statistics if own is not None]
        if len(known) < len(maps):
            return TORCH.shared_backward(grad, factors, maps, statistics)
        return torch.ops.cscdarts.shared_backward(  # type: ignore[no-any-return]
            grad, list(factors), list(maps), [own.mean for own in known], [own.inv_std for own in known]
        )

    def gather(
        self, of_relu: Sequence[Tensor], active: Tensor, parts: Sequence[Tensor], grad: Tensor,
        carried: Tensor | None, averaged: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """See `Arithmetic.gather`."""
        return torch.ops.cscdarts.gather(  # type: ignore[no-any-return]
            list(of_relu), active, list(parts), grad, [] if carried is None else [carried],
            [] if averaged is None else [averaged],
        )  # fmt: skip
