"""Nested named tuples as a flat list of tensors, which is what autograd keeps and watches, and back again."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

#: Stands for a tensor in a packed structure.
_TENSOR = object()


def pack(saved: Any) -> tuple[Any, list[Tensor]]:
    """Take the tensors out of a nested tuple.

    Args:
        saved: tensors, (named) tuples of such things, and anything else, which stays as it is.

    Returns:
        the same structure without its tensors, and the tensors from left to right.
    """
    tensors: list[Tensor] = []
    return _without_tensors(saved, tensors), tensors


def unpack(structure: Any, tensors: Sequence[Tensor]) -> Any:
    """What `pack` took apart."""
    return _with_tensors(structure, iter(tensors))


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR
    return _same_kind(value, [_without_tensors(v, tensors) for v in value]) if isinstance(value, tuple) else value


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    if value is _TENSOR:
        return next(tensors)
    return _same_kind(value, [_with_tensors(v, tensors) for v in value]) if isinstance(value, tuple) else value


def _same_kind(value: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of the same class, named or plain, with other items."""
    return type(value)._make(items) if hasattr(value, "_make") else tuple(items)
