"""Counts what a piece of tensor code asks of a device: launches, bytes moved, FLOPs, waits, memory at its peak.

A dispatch mode sees every ATen operator, those of backward passes and of hand-written autograd functions included,
whatever path the model takes. Tensors may be real or on the meta device, where nothing is computed: shapes alone are
counted, and what an operator gives for some shapes is worked out once.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

#: Operators that only allocate, hand a tensor on or mark a place in a profile: no device is asked to do anything.
_FREE = frozenset(
    {
        "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::empty_permuted", "aten::new_empty",
        "aten::new_empty_strided", "aten::_unsafe_view", "aten::lift_fresh", "aten::resize_", "aten::set_",
        "aten::is_same_size", "aten::record_stream", "profiler::_record_function_enter_new",
        "profiler::_record_function_exit",
    }
)  # fmt: skip
_READ_BACK = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal")
#: Operators that read a value or a number of values off the device: the host waits until all before them is done.
_WAITS = frozenset(
    {*_READ_BACK, "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}
)  # fmt: skip
#: Operators that change a tensor's form in its place.
_RESHAPE = frozenset({"aten::t_", "aten::transpose_", "aten::squeeze_", "aten::unsqueeze_", "aten::as_strided_"})
#: Operators that read their maps twice: for statistics or sums first, then for values.
_READ_TWICE = frozenset({"aten::native_batch_norm", "aten::native_batch_norm_backward", "aten::_softmax"})


@dataclass(frozen=True)
class Launch:
    """What one operator asks for.

    Attributes:
        name: of the operator, without overload.
        moved: bytes that it reads and writes, each tensor as large as it is in memory.
        flops: twice the multiply-accumulates of convolutions and matrix products; 0 for all else.
        depthwise: whether it is a convolution with one input channel a group, which no matrix unit computes.
        half: whether it computes in half precision.
    """

    name: str
    moved: int
    flops: int = 0
    depthwise: bool = False
    half: bool = False


@dataclass
class Counted:
    """What some code has asked of a device.

    Attributes:
        kinds: launches -> how often, equal ones together.
        host_waits: how often the host has waited for a value.
        before: bytes held before.
        peak: most bytes alive at once, of all storages made under the count or held before it.
        saved: most bytes kept at once for backward passes, parameters and whatever else was held left out.
        workspace: bytes of the largest map that a convolution reads or writes: what a library may take beside.
    """

    kinds: Counter[Launch] = field(default_factory=Counter)
    host_waits: int = 0
    before: int = 0
    peak: int = 0
    saved: int = 0
    workspace: int = 0

    @property
    def launches(self) -> int:
        """Operators that run on the device: views and allocations are none."""
        return sum(self.kinds.values())

    @property
    def flops(self) -> int:
        """Twice the multiply-accumulates."""
        return sum(kind.flops * times for kind, times in self.kinds.items())

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return sum(kind.moved * times for kind, times in self.kinds.items())


@dataclass(frozen=True)
class _Known:
    """What an operator does with arguments of some shapes.

    Attributes:
        launch: what it asks for, None for nothing.
        workspace: see `Counted`.
        outputs: size, strides and dtype of each tensor it makes, where it makes new ones only; else None.
        single: whether it gives one tensor, and not several.
        in_place: whether it changes its first argument and gives that or nothing.
    """

    launch: Launch | None
    workspace: int
    outputs: tuple[tuple[Any, Any, torch.dtype] | None, ...] | None
    single: bool
    in_place: bool = False


_known: dict[Any, _Known] = {}


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts everything that happens inside of it; see `counting`.

    Args:
        held: tensors that are alive before (parameters, buffers, momentum, a batch): part of the peak. They are on the
            device that is counted.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = Counted()
        self._alive: dict[int, int] = {}
        self._kept: set[int] = set()  # storages that a backward pass will read
        self._kept_bytes = self._bytes = 0
        self._watched: dict[int, weakref.ref[Any]] = {}
        self.device = "cpu"
        for tensor in held:
            self._hold(tensor)
            self.device = tensor.device.type
        self._held = frozenset(self._alive)
        self.counted.before = self._bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        key = _key(func, args, kwargs)
        known = None if key is None else _known.get(key)
        if known is None and self._beside(args, kwargs):
            return func(*args, **kwargs)
        if known is not None and known.outputs is not None:
            made = [None if o is None else torch.empty_strided(o[0], o[1], dtype=o[2], device="meta")
                    for o in known.outputs]  # fmt: skip
            out: Any = made[0] if known.single else tuple(made)
        elif known is not None and known.in_place:
            made, out = [], args[0] if func._schema.returns else None
        else:
            name = func._schema.name
            self.counted.host_waits += name in _WAITS
            on_meta = any(isinstance(a, Tensor) and a.is_meta for a in args)
            # Nobody knows the value; 1 is finite, true and no zero.
            out = 1 if name in _READ_BACK and on_meta else func(*args, **kwargs)
            made = [leaf for leaf in tree_iter(out) if isinstance(leaf, Tensor)]
        if known is None:
            known = _learn(func, args, kwargs, out, made)
            if key is not None:
                _known[key] = known
        if known.launch is not None:
            self.counted.kinds[known.launch] += 1
            self.counted.workspace = max(self.counted.workspace, known.workspace)
        for tensor in made:
            if tensor is not None:
                self._hold(tensor)
        return out

    def _beside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether an operator has to do with tensors of the host alone, such as an optimiser's count of steps."""
        device = kwargs.get("device")
        given = [leaf.device.type for leaf in _tensors(args) if isinstance(leaf, Tensor)]
        types = given or ([torch.device(device).type] if device is not None else [])
        return self.device != "cpu" and bool(types) and set(types) == {"cpu"}

    def keep(self, tensor: Tensor) -> Tensor:
        """Note that a backward pass will read a tensor; a hook of `saved_tensors_hooks`."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._held and key not in self._kept:
            self._hold(tensor)
            self._kept.add(key)
            self._kept_bytes += self._alive[key]
            self.counted.saved = max(self.counted.saved, self._kept_bytes)
        # Detached: a tensor that knows its graph, kept by that graph, would never be freed. It is a view, not counted.
        with torch._C._DisableTorchDispatch():
            return tensor.detach()

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = storage.nbytes()
        self._alive[key] = size
        self._bytes += size
        self.counted.peak = max(self.counted.peak, self._bytes)
        self._watched[key] = weakref.ref(storage, lambda _: self._release(key))

    def _release(self, key: int) -> None:
        size = self._alive.pop(key, 0)
        self._bytes -= size
        if key in self._kept:
            self._kept.discard(key)
            self._kept_bytes -= size
        self._watched.pop(key, None)


@contextmanager
def counting(held: Iterable[Tensor] = ()) -> Iterator[Counted]:
    """Count what happens inside; see `Count`. Tensors on the meta device are stepped through as those of a GPU are."""
    count = Count(held)
    with _lists_as_on_a_gpu(), torch.autograd.graph.saved_tensors_hooks(count.keep, lambda kept: kept), count:
        yield count.counted


@contextmanager
def _lists_as_on_a_gpu() -> Iterator[None]:
    """Let optimisers and clipping take lists of tensors on the meta device in one call, as they do on CUDA."""
    before = _foreach_utils._get_foreach_kernels_supported_devices
    _foreach_utils._get_foreach_kernels_supported_devices = lambda: [*before(), "meta"]
    try:
        yield
    finally:
        _foreach_utils._get_foreach_kernels_supported_devices = before


def _key(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operator's work depends on, hashable; None where a tensor is real or something cannot be hashed."""
    try:
        key = (func, *(_described(a) for a in args), *((k, _described(v)) for k, v in kwargs.items()))
        hash(key)
    except (TypeError, _Real):
        return None
    return key


def _tensors(args: Iterable[Any]) -> Iterator[Any]:
    """The arguments, those in lists one by one."""
    for one in args:
        if isinstance(one, list | tuple):
            yield from one
        else:
            yield one


class _Real(Exception):
    """A tensor that holds values."""


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _Real
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(_described(one) for one in value)
    # 1 == 1.0 == True, and a product with each of them may have another dtype.
    return (type(value), value)


def _learn(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, made: list[Any]) -> _Known:
    schema = func._schema
    name = schema.name
    aliases = [part.alias_info for part in (*schema.arguments, *schema.returns)]
    fresh = all(alias is None for alias in aliases)
    outputs = None
    single = isinstance(out, Tensor)
    flat = [out] if single else list(out) if isinstance(out, list | tuple) else None
    if fresh and flat is not None and all(one is None or isinstance(one, Tensor) for one in flat):
        outputs = tuple(None if one is None else (one.size(), one.stride(), one.dtype) for one in flat)
        if not all(one is None or one.is_meta for one in flat):
            outputs = None
    returned = [part.alias_info for part in schema.returns]
    is_view = bool(returned) and all(alias is not None and not alias.is_write for alias in returned)
    if name in _FREE or is_view:
        return _Known(None, 0, outputs, single)
    given = {id(leaf): leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)}
    read = sum(map(_in_memory, given.values())) * (2 if name in _READ_TWICE else 1)
    # An operator that changes a tensor gives it back: read and written. One that gives nothing changes its first list.
    written = sum(_in_memory(one) for one in made if one is not None)
    if not schema.returns and args:
        written = sum(map(_in_memory, (leaf for leaf in tree_iter(args[0]) if isinstance(leaf, Tensor))))
    flops, depthwise, workspace = 0, False, 0
    if name in ("aten::convolution", "aten::convolution_backward"):
        flops, depthwise = _convolution(name, args, made)
        workspace = max(_in_memory(one) for one in (*given.values(), *made) if one is not None)
    elif name in _PRODUCTS:
        first, second = (args[place] for place in _PRODUCTS[name])
        flops = 2 * first.numel() * int(second.shape[-1])
    half = any(one.dtype in (torch.float16, torch.bfloat16) for one in given.values())
    launch = Launch(name.removeprefix("aten::"), read + written, flops, depthwise, half)
    in_place = name.endswith("_") and name not in _RESHAPE and (out is None or (bool(args) and out is args[0]))
    return _Known(launch, workspace, outputs, single, in_place)


#: Matrix products -> the places of their factors.
_PRODUCTS = {"aten::mm": (0, 1), "aten::bmm": (0, 1), "aten::addmm": (1, 2), "aten::baddbmm": (1, 2)}


def _in_memory(tensor: Tensor) -> int:
    """Bytes that a tensor covers: what a dimension of stride 0 repeats is there once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


def _convolution(name: str, args: tuple[Any, ...], made: list[Any]) -> tuple[int, bool]:
    """FLOPs of a convolution or of its backward pass, whose two gradients cost as much as it, and whether it is
    depthwise."""
    if name == "aten::convolution":
        images, weight, transposed, groups, times, output = args[0], args[1], args[6], args[8], 1, made[0]
    else:
        output, images, weight, transposed, groups = args[0], args[1], args[2], args[7], args[9]
        times = sum(args[10][:2])
    pixels = (images if transposed else output).numel()
    return 2 * times * pixels * weight[0].numel(), groups > 1 and weight.shape[1] == 1
