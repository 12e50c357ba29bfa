"""The programs as operators of torch: one launch each, with shapes for tensors that have no values.

On the meta device an operator gives shapes and is seen as the one launch that it is. On others it runs the program; on
a CPU that is Triton's interpreter, where TRITON_INTERPRET=1 was set before the first import.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from triton import language as tl

from cscdarts.kernels.portable.triton_kernels import programs

_LIBRARY = torch.library.Library("cscdarts", "FRAGMENT")  # type: ignore[no-untyped-call]
#: Most values that one instance holds at a time, and its warps: a channel's instance works through many blocks.
_BLOCK, _WARPS = 1024, 8


def normalise(
    maps: list[Tensor], weights: list[Tensor | None], running: list[tuple[Tensor, Tensor]] | None, on: int, width: int,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `programs.normalise`; weights None for 1, running statistics None where they rest."""
    given = [torch.ops.aten.detach(maps[0]) if weight is None else weight for weight in weights]
    weighted = [int(weight is not None) for weight in weights]
    means, variances = ([], []) if running is None else ([mean for mean, _ in running], [var for _, var in running])
    return torch.ops.cscdarts.normalise(maps, given, weighted, means, variances, on, width, momentum, eps)  # type: ignore[no-any-return]


def _normalise_shapes(
    maps: list[Tensor], weights: list[Tensor], weighted: list[int], means: list[Tensor], variances: list[Tensor],
    on: int, width: int, momentum: float, eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    first = maps[0]
    n, _, h, w = first.shape
    total = sum(m.shape[1] for m in maps)
    statistics = first.new_empty((4, total), dtype=_sums(first))
    return statistics, first.new_empty((on // width, n, width, h, w) if on else (0,))


def _normalise(
    maps: list[Tensor], weights: list[Tensor], weighted: list[int], means: list[Tensor], variances: list[Tensor],
    on: int, width: int, momentum: float, eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    statistics, rectified = _normalise_shapes(maps, weights, weighted, means, variances, on, width, momentum, eps)
    n, _, h, w = maps[0].shape
    moving = bool(means)
    programs.normalise[(statistics.shape[1],)](
        tuple(maps), tuple(weights), tuple(weighted), tuple(means if moving else maps),
        tuple(variances if moving else maps), tuple(m.shape[1] for m in maps), rectified, statistics,
        statistics.shape[1], on, width, n, h * w, momentum, eps,
        TRACK=moving, BLOCK=_block(n * h * w), ACC=_type(maps[0]), num_warps=_WARPS,
    )  # fmt: skip
    return statistics, rectified


def _rectify_shapes(p: Tensor, mean: Tensor, inv_std: Tensor, on: int, width: int) -> Tensor:
    n, _, h, w = p.shape
    return p.new_empty((on, n, width, h, w))


def _rectify(p: Tensor, mean: Tensor, inv_std: Tensor, on: int, width: int) -> Tensor:
    out = _rectify_shapes(p, mean, inv_std, on, width)
    n, channels, h, w = p.shape
    programs.rectify[(on * n * width,)](
        p, mean, inv_std, out, channels, width, n, h * w,
        BLOCK=_block(h * w), ACC=_type(p), num_warps=_plane_warps(h * w),
    )  # fmt: skip
    return out


def _weigh_shapes(
    maps: list[Tensor], scales: list[Tensor], shifts: list[Tensor], skipped: list[int], shared: list[Tensor],
    shared_scales: list[Tensor], shared_shifts: list[Tensor], normed: list[int], factors: list[Tensor],
    averaged: list[Tensor], per_edge: int, edges: int,
) -> list[Tensor]:  # fmt: skip
    like = (maps or shared or averaged)[0]
    shape = (like.shape[0], per_edge, *like.shape[2:])
    return [like.new_empty(shape) for _ in range(edges)]


def _weigh(
    maps: list[Tensor], scales: list[Tensor], shifts: list[Tensor], skipped: list[int], shared: list[Tensor],
    shared_scales: list[Tensor], shared_shifts: list[Tensor], normed: list[int], factors: list[Tensor],
    averaged: list[Tensor], per_edge: int, edges: int,
) -> list[Tensor]:  # fmt: skip
    outs = _weigh_shapes(
        maps, scales, shifts, skipped, shared, shared_scales, shared_shifts, normed, factors, averaged,
        per_edge, edges,
    )  # fmt: skip
    n, _, h, w = outs[0].shape
    width, nothing = per_edge * edges, (outs[0],)
    channels = tuple(m.shape[1] for m in maps)
    programs.weigh[(n * width,)](
        tuple(maps) or nothing, tuple(scales) or nothing, tuple(shifts) or nothing, channels or (0,),
        tuple(skipped) or (0,), tuple(c // width - s for c, s in zip(channels, skipped, strict=True)) or (0,),
        tuple(shared) or nothing, tuple(shared_scales) or nothing, tuple(shared_shifts) or nothing,
        tuple(normed) or (0,), tuple(factors) or nothing, (averaged or outs)[0], (averaged or [outs[0]])[-1],
        tuple(outs), per_edge, h, w,
        MAPS=len(maps), SHARED=len(shared), AVERAGED=bool(averaged), EDGES=edges,
        BLOCK=_block(h * w), ACC=_type(outs[0]), num_warps=_plane_warps(h * w),
    )  # fmt: skip
    return outs


def _backward_shapes(
    grad: Tensor, maps: list[Tensor], means: list[Tensor], stds: list[Tensor], weights: list[Tensor], on: int,
    sources: list[Tensor], wanted: bool,
) -> list[Tensor]:  # fmt: skip
    dots = grad.new_empty((sum(m.shape[1] for m in maps),), dtype=_sums(grad))
    return [dots, *(torch.empty_like(m) for m in maps)] if wanted else [dots]


def _backward(
    grad: Tensor, maps: list[Tensor], means: list[Tensor], stds: list[Tensor], weights: list[Tensor], on: int,
    sources: list[Tensor], wanted: bool,
) -> list[Tensor]:  # fmt: skip
    dots, *outs = _backward_shapes(grad, maps, means, stds, weights, on, sources, wanted)
    n, width, h, w = grad.shape
    programs.normalise_backward[(len(dots),)](
        grad, tuple(maps), tuple(means), tuple(stds), tuple(weights), tuple(m.shape[1] for m in maps), on,
        tuple(sources) or (grad,), tuple(outs or maps), dots, width, n, h * w,
        SOURCES=len(sources), WANTED=wanted, BLOCK=_block(n * h * w), ACC=_type(grad), num_warps=_WARPS,
    )  # fmt: skip
    return [dots, *outs]


def _shared_shapes(
    grad: Tensor, factors: list[Tensor], maps: list[Tensor], means: list[Tensor], stds: list[Tensor]
) -> list[Tensor]:
    return [torch.empty_like(m) for m in maps]


def _shared(
    grad: Tensor, factors: list[Tensor], maps: list[Tensor], means: list[Tensor], stds: list[Tensor]
) -> list[Tensor]:
    outs = _shared_shapes(grad, factors, maps, means, stds)
    n, channels, h, w = maps[0].shape
    programs.shared_backward[(len(maps) * channels,)](
        grad, tuple(factors), tuple(maps), tuple(means), tuple(stds), tuple(outs), channels, n, h * w,
        EDGES=grad.shape[1] // channels, BLOCK=_block(n * h * w), ACC=_type(grad), num_warps=_WARPS,
    )  # fmt: skip
    return outs


def _gather_shapes(
    of_relu: list[Tensor], active: Tensor, parts: list[Tensor], grad: Tensor, carried: list[Tensor],
    averaged: list[Tensor],
) -> Tensor:  # fmt: skip
    return torch.empty_like(active)


def _gather(
    of_relu: list[Tensor], active: Tensor, parts: list[Tensor], grad: Tensor, carried: list[Tensor],
    averaged: list[Tensor],
) -> Tensor:  # fmt: skip
    out = _gather_shapes(of_relu, active, parts, grad, carried, averaged)
    n, channels, h, w = active.shape
    programs.gather[(n * channels,)](
        tuple(of_relu) or (out,), active, tuple(parts) or (out,), grad, (carried or [out])[0], (averaged or [out])[0],
        out, channels, h, w,
        RELU=len(of_relu), PARTS=len(parts), CARRIED=bool(carried), AVERAGED=bool(averaged),
        EDGES=grad.shape[1] // channels, BLOCK=_block(h * w), ACC=_type(out), num_warps=_plane_warps(h * w),
    )  # fmt: skip
    return out


_OPERATORS: dict[str, tuple[str, Any, Any]] = {
    "normalise": (
        "(Tensor[] maps, Tensor[] weights, int[] weighted, Tensor(a!)[] means, Tensor(b!)[] variances, int on, "
        "int width, float momentum, float eps) -> (Tensor, Tensor)",
        _normalise, _normalise_shapes,
    ),
    "rectify": ("(Tensor p, Tensor mean, Tensor inv_std, int on, int width) -> Tensor", _rectify, _rectify_shapes),
    "weigh": (
        "(Tensor[] maps, Tensor[] scales, Tensor[] shifts, int[] skipped, Tensor[] shared, Tensor[] shared_scales, "
        "Tensor[] shared_shifts, int[] normed, Tensor[] factors, Tensor[] averaged, int per_edge, "
        "int edges) -> Tensor[]",
        _weigh, _weigh_shapes,
    ),
    "normalise_backward": (
        "(Tensor grad, Tensor[] maps, Tensor[] means, Tensor[] stds, Tensor[] weights, int on, Tensor[] sources, "
        "bool wanted) -> Tensor[]",
        _backward, _backward_shapes,
    ),
    "shared_backward": (
        "(Tensor grad, Tensor[] factors, Tensor[] maps, Tensor[] means, Tensor[] stds) -> Tensor[]",
        _shared, _shared_shapes,
    ),
    "gather": (
        "(Tensor[] of_relu, Tensor active, Tensor[] parts, Tensor grad, Tensor[] carried, Tensor[] averaged) -> Tensor",
        _gather, _gather_shapes,
    ),
}  # fmt: skip


def _where_it_lies(run: Callable[..., Any]) -> Callable[..., Any]:
    """A program launched on the device of its tensors, which need not be the current one."""

    def launched(*arguments: Any) -> Any:
        tensors = (t for given in arguments for t in (given if isinstance(given, list) else [given]))
        with torch.cuda.device_of(next(t for t in tensors if isinstance(t, Tensor))):  # type: ignore[no-untyped-call]
            return run(*arguments)

    return launched


for _name, (_schema, _run, _shapes) in _OPERATORS.items():
    _LIBRARY.define(_name + _schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, _where_it_lies(_run), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, _shapes, "Meta")  # type: ignore[no-untyped-call]


def _sums(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _type(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _block(values: int) -> int:
    return min(_BLOCK, int(triton.next_power_of_2(values)))


def _plane_warps(pixels: int) -> int:
    """Four values a lane."""
    return max(1, min(8, _block(pixels) // 128))
