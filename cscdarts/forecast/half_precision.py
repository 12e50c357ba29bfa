"""Automatic mixed precision on the meta device, for which torch has none: the same casts, so that bytes are counted
right."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

Model = TypeVar("Model", bound=nn.Module)

#: Of torch's lists (`torch/csrc` via the page "Automatic Mixed Precision, op reference") what networks here call.
_TO_HALF: frozenset[Any] = frozenset(
    {torch.conv2d, F.conv2d, F.linear, torch.matmul, Tensor.matmul, torch.mm, torch.bmm, torch.addmm, torch.einsum}
)
_TO_FLOAT: frozenset[Any] = frozenset(
    {F.cross_entropy, F.log_softmax, torch.softmax, Tensor.softmax, F.softmax, torch.sum, Tensor.sum, torch.rsqrt,
     Tensor.rsqrt, torch.exp, Tensor.exp, Tensor.pow, torch.linalg.vector_norm}
)  # fmt: skip


class HalfPrecision(TorchFunctionMode):
    """Casts as `torch.autocast` does: convolutions and products in half precision, sums and softmax in float32.

    Weights are cast once for a pass. For forward passes; a backward pass computes in the precisions that it finds.

    Args:
        dtype: `torch.bfloat16` or `torch.float16`.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self._weights: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _TO_HALF:
            args, kwargs = tree_map(self._half, (args, kwargs))
        elif func in _TO_FLOAT:
            args, kwargs = tree_map(_float, (args, kwargs))
        return func(*args, **kwargs)

    def _half(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self.dtype)
        if id(value) not in self._weights:
            self._weights[id(value)] = value.to(self.dtype)
        return self._weights[id(value)]


def _float(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if is_half else value


def in_precision(kind: type[Model], precision: str) -> type[Model]:
    """The class of a model, its forward pass in `bf16` or `fp16`; with `none` the class itself."""
    if precision == "none":
        return kind
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16

    class Cast(kind):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Any) -> Any:
            with HalfPrecision(dtype):
                return super().forward(*inputs)

    return Cast
