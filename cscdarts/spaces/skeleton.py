"""The macro structure: what stands between the images and the classifier, as data from which all networks are built.

The supernet, the discrete network and the reference read the same `NetworkPlan`; none of them counts cells or channels
itself. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: From this side in pixels on images get the stem that halves three times (quark0/darts
#: `cnn/model.py:NetworkImageNet`).
_LARGE_FROM = 96


def is_large(size: int) -> bool:
    """Whether images of size x size pixels get the large stem, in spaces that have one."""
    return size >= _LARGE_FROM


def size_step(size: int) -> int:
    """The number of pixels that an image's side must be a multiple of, so that no map of odd size is halved."""
    return 32 if is_large(size) else 4


@dataclass(frozen=True)
class CellPlan:
    """A cell's place.

    Attributes:
        kind: which of the space's kinds of cell stands here.
        inputs: channels of the maps it reads, the newest last.
        channels: c of each of its nodes.
        outputs: channels of its output.
        reduction: whether the edges that leave its inputs have stride 2.
        halved: whether the older of two inputs has twice the side of the newer.
    """

    kind: str
    inputs: tuple[int, ...]
    channels: int
    outputs: int
    reduction: bool = False
    halved: bool = False


@dataclass(frozen=True)
class ReductionPlan:
    """The place of a fixed residual block that halves h and w."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class NetworkPlan:
    """A whole network.

    Attributes:
        stem: channels that the stem gives.
        large_stem: whether it is the one that reduces h and w by 4 and by 8, for the first two inputs.
        blocks: in order.
        features: channels of the last map.
        normalised_head: whether normalisation and ReLU stand before the last pooling.
        auxiliary_after: the block after which the auxiliary classifier may stand, None for no such place.
    """

    stem: int
    large_stem: bool
    blocks: tuple[CellPlan | ReductionPlan, ...]
    features: int
    normalised_head: bool
    auxiliary_after: int | None


@dataclass(frozen=True)
class MacroSkeleton:
    """How a space's cells are stacked.

    Attributes:
        reduction: `cell`: the first cell of each stage but the first is a searched one of stride 2 with twice the
            channels, and a network's number of cells counts them all. `block`: a fixed residual block between the
            stages halves the maps and doubles the channels, and the number of cells counts those of one stage.
        stages: how many sizes of map there are.
        stem_factor: channels of the stem for each channel of the first cell.
        large_stem: whether large images get a stem that halves three times; it has the channels of the first cell.
        normalised_head: see `NetworkPlan`.
        auxiliary: whether an auxiliary classifier may stand after the last reduction.
    """

    reduction: Literal["cell", "block"]
    stages: int = 3
    stem_factor: int = 1
    large_stem: bool = False
    normalised_head: bool = False
    auxiliary: bool = False

    def plan(
        self,
        cells: int,
        channels: int,
        large_images: bool,
        kinds: tuple[str, ...],
        inputs: int,
        joined: Mapping[str, int],
    ) -> NetworkPlan:
        """The places of a network.

        Args:
            cells: number of cells, counted as `reduction` says.
            channels: of the first cell.
            large_images: see `is_large`.
            kinds: the space's kinds of cell; of several, the last is that of reductions.
            inputs: how many earlier maps a cell reads.
            joined: kind -> how many nodes' maps a cell's output holds.
        """
        large = self.large_stem and large_images
        c, stem = channels, channels if large else self.stem_factor * channels
        maps, halved = [stem, stem], large  # channels of the two newest maps; whether the older is twice as large
        blocks: list[CellPlan | ReductionPlan] = []
        counted = cells if self.reduction == "cell" else self.stages * cells
        reductions = {stage * counted // self.stages for stage in range(1, self.stages)}
        for index in range(counted):
            reduces = index in reductions
            c = 2 * c if reduces else c
            if reduces and self.reduction == "block":
                blocks.append(ReductionPlan(maps[1], c))
                maps, halved = [maps[1], c], True
                reduces = False
            kind = kinds[-1] if reduces else kinds[0]
            blocks.append(CellPlan(kind, tuple(maps[-inputs:]), c, c * joined[kind], reduces, halved))
            maps, halved = [maps[1], blocks[-1].outputs], reduces
        last = (self.stages - 1) * counted // self.stages if self.auxiliary and self.reduction == "cell" else None
        return NetworkPlan(stem, large, tuple(blocks), maps[1], self.normalised_head, last)
