"""How the embedded benchmark was made: sizes of its network and its training recipe. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

#: Operations with weights -> side of their kernel.
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


@dataclass(frozen=True)
class Skeleton:
    """Sizes of the network around the cells; `benchmarks.embedded.network` draws it.

    Attributes:
        channels: C, the width of the first cell; the second has 2C.
        image_size: h = w of the images.
        image_channels: channels of the images.
        classes: outputs of the linear layer.
    """

    channels: int = 8
    image_size: int = 8
    image_channels: int = 1
    classes: int = 10

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of the two cells."""
        return ((self.channels, self.image_size), (2 * self.channels, self.image_size // 2))

    def cost(self, ops: Sequence[str]) -> tuple[float, float]:
        """(parameters, multiply-adds) in millions with this cell; all convolutions count, dead ones too, as
        officially."""
        c, size = self.channels, self.image_size
        params = 9 * self.image_channels * c + 9 * c * 2 * c + 2 * c * c + 2 * c * self.classes + self.classes
        macs = 9 * self.image_channels * c * size**2 + (9 * c * 2 * c + 2 * c * c) * (size // 2) ** 2
        macs += 2 * c * self.classes
        for op in ops:
            for width, height in self.stages:
                weights = KERNELS.get(op, 0) ** 2 * width * width
                params += weights
                macs += weights * height**2
        return params / 1e6, macs / 1e6


@dataclass(frozen=True)
class TrainingRecipe:
    """How every cell is trained: SGD with Nesterov momentum, cosine learning rate to 0 over all steps, no augmentation.

    The settings are NAS-Bench-201's (lr 0.1, weight decay 5e-4, momentum 0.9) but for batch and epochs. All models of
    a seed see the same batches; initial weights depend on the seed and the cell's class.
    """

    seeds: tuple[int, ...] = (777, 888, 999)
    epochs: int = 6
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    chunk: int = 16
    channels: int = 8

    @property
    def skeleton(self) -> Skeleton:
        """The network around the cells."""
        return Skeleton(channels=self.channels)
