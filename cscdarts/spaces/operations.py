"""Candidate operations as records: what each is made of, and what a user's own gives instead. No torch.

An operation is said in parts where it can be: a row of convolutions, or one pooling, skip or zero. Its modules, its
batched form in the supernet, and its cost then follow from the parts (`cscdarts.models.operations`). What parts cannot
say is given as functions that make modules; they may import torch when they are called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cscdarts.errors import UserError
from cscdarts.spaces.registry import Registry


@dataclass(frozen=True)
class Conv:
    """ReLU, k x k convolution without bias, normalisation.

    Attributes:
        kernel: k, odd.
        depthwise: each channel is convolved by itself, and a 1x1 convolution over all channels follows.
        dilation: distance of the kernel's pixels.
    """

    kernel: int
    depthwise: bool = False
    dilation: int = 1

    @property
    def padding(self) -> int:
        """Pixels added on each side, so that only the stride changes a map's size."""
        return self.dilation * (self.kernel - 1) // 2


@dataclass(frozen=True)
class Pool:
    """Pooling, `max` or `avg` (which does not count the padding), over size x size pixels, size odd."""

    kind: Literal["max", "avg"]
    size: int = 3


@dataclass(frozen=True)
class Skip:
    """The input itself; with stride 2 ReLU, two 1x1 convolutions on maps one pixel apart, normalisation."""


@dataclass(frozen=True)
class Zero:
    """No connection."""


@dataclass(frozen=True)
class Noise:
    """Standard normal draws of the map's shape in place of the map."""


Part = Conv | Pool | Skip | Zero | Noise


@dataclass(frozen=True)
class ConvShape:
    """One convolution's shape: channels, kernel side, groups, input and output pixels."""

    inputs: int
    outputs: int
    kernel: int
    groups: int
    pixels_in: int
    pixels_out: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.pixels_out * self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def activations(self) -> int:
        """Elements read and written for one image."""
        return self.pixels_in * self.inputs + self.pixels_out * self.outputs

    @property
    def weights(self) -> int:
        """Elements of the kernel."""
        return self.outputs * (self.inputs // self.groups) * self.kernel**2


#: (channels, stride, affine) -> a module that maps (n, c, h, w) to (n, c, h/stride, w/stride). `affine` says whether
#: its normalisations have weight and bias; they are `cscdarts.kernels.batch_norm.BatchNorm`, which the search can hold
#: still.
ModuleFactory = Callable[[int, int, bool], Any]
#: (edges e, channels, stride) -> a module that maps (n, c, h, w) to the outputs of all edges,
#: (n, e*c, h/stride, w/stride).
BatchedFactory = Callable[[int, int, int], Any]
#: (channels, height, width, stride) -> the convolutions of one edge.
ShapesFactory = Callable[[int, int, int, int], Sequence[ConvShape]]


@dataclass(frozen=True)
class Operation:
    """One candidate operation.

    Attributes:
        name: its name in configurations and genotypes.
        label: its short name in drawings.
        parts: what it is made of, in order: convolutions, or one `Pool`, `Skip`, `Zero` or `Noise`; () where `module`
            says it. A stride is taken by the first.
        module: makes its module, for the discrete network, and for the supernet where `batched` is not given.
        batched: makes one module for all edges that leave a node in the supernet; None for one module per edge.
        shapes: its convolutions, for the cost; None to read them off the parts, or off a pass through `module`.
        has_weights: of an operation given by `module`, whether it learns. A cell of operations that do not has
            collapsed.

    Errors:
        UserError: neither or both of `parts` and `module` are given, or parts that do not go together.
    """

    name: str
    label: str
    parts: tuple[Part, ...] = ()
    module: ModuleFactory | None = None
    batched: BatchedFactory | None = None
    shapes: ShapesFactory | None = None
    has_weights: bool = True

    def __post_init__(self) -> None:
        field = f"operation {self.name}"
        if bool(self.parts) == (self.module is not None):
            given = "both" if self.parts else "neither"
            raise UserError(field, given, "either parts or module", "Say in one way what it is made of.")
        if len(self.parts) > 1 and not all(isinstance(part, Conv) for part in self.parts):
            raise UserError(field, self.parts, "convolutions in a row, or one other part", "Give module instead.")
        for part in self.parts:
            side = part.kernel if isinstance(part, Conv) else part.size if isinstance(part, Pool) else 1
            if side < 1 or side % 2 == 0:
                raise UserError(field, side, "an odd number of pixels", "Only with these a map keeps its size.")

    @property
    def parameter_free(self) -> bool:
        """Whether it has no weights (those that a skip of stride 2 needs are not counted)."""
        return not any(isinstance(part, Conv) for part in self.parts) if self.parts else not self.has_weights

    @property
    def is_zero(self) -> bool:
        """Whether it gives nothing: it costs nothing, is not derived by DARTS and not drawn."""
        return self.parts == (Zero(),)

    @property
    def is_skip(self) -> bool:
        """Whether it hands its input on: what the monitors of collapse count."""
        return self.parts == (Skip(),)

    @property
    def is_pool(self) -> bool:
        """Whether it is a pooling, whose map some spaces normalise in the supernet."""
        return any(isinstance(part, Pool) for part in self.parts)

    def conv_shapes(self, channels: int, height: int, width: int, stride: int) -> list[ConvShape] | None:
        """The convolutions of one edge on maps (channels, height, width); None where only a pass can tell."""
        if self.shapes is not None:
            return list(self.shapes(channels, height, width, stride))
        if not self.parts:
            return None
        before, after = height * width, (height // stride) * (width // stride)
        if self.is_skip and stride == 2:
            return [ConvShape(channels, channels // 2, 1, 1, before, after)] * 2
        found = []
        for part in self.parts:
            if isinstance(part, Conv):
                groups = channels if part.depthwise else 1
                found.append(ConvShape(channels, channels, part.kernel, groups, before, after))
                before = after
                if part.depthwise:
                    found.append(ConvShape(channels, channels, 1, 1, after, after))
        return found


OPERATIONS: Registry[Operation] = Registry("operation", "cscdarts.register_operation(Operation(...))")


def register_operation(record: Operation) -> None:
    """Make an operation known by its name; every space then accepts it in `supernet.ops`.

    A configuration's hash covers the name only: give an operation that computes something else another name.

    Errors:
        UserError: the name is one of the package's.
    """
    OPERATIONS.register(record)


# quark0/darts cnn/operations.py; for nor_conv D-X-Y/AutoDL-Projects xautodl/models/cell_operations.py; for the noise
# automl/RobustDARTS src/operations.py, where it is called `noise`.
for _record in (
    Operation("none", "none", (Zero(),)),
    Operation("skip_connect", "skip", (Skip(),)),
    Operation("max_pool_3x3", "max 3×3", (Pool("max"),)),
    Operation("avg_pool_3x3", "avg 3×3", (Pool("avg"),)),
    Operation("sep_conv_3x3", "sep 3×3", (Conv(3, depthwise=True), Conv(3, depthwise=True))),
    Operation("sep_conv_5x5", "sep 5×5", (Conv(5, depthwise=True), Conv(5, depthwise=True))),
    Operation("dil_conv_3x3", "dil 3×3", (Conv(3, depthwise=True, dilation=2),)),
    Operation("dil_conv_5x5", "dil 5×5", (Conv(5, depthwise=True, dilation=2),)),
    Operation("nor_conv_1x1", "conv 1×1", (Conv(1),)),
    Operation("nor_conv_3x3", "conv 3×3", (Conv(3),)),
    Operation("gaussian_noise", "noise", (Noise(),)),
):
    register_operation(_record)
OPERATIONS.close()
