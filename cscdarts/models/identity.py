"""The identity connection of CSC-DARTS, kept in search and evaluation.

    cell: y <- y + scale * R(s),  s the raw output of the previous cell, y this cell's output
    edge: z_ij <- z_ij + scale * I(x_i)

Its place is not public (the abstract: an identity connection "in both the search and evaluation phases" against the
"inconsistency of the architecture depth between the two stages"); `cell` is the default, `edge` follows DARTS-.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.models.operations import FactorizedReduce, ReLUConvBN

Projection = Literal["conv", "pool-pad", "skip-cell"]


class CellIdentity(nn.Module):
    """R of the cell identity: the identity where shapes agree, else a projection.

    Args:
        inputs, outputs: channels of the previous cell's output and of this cell's.
        stride: 1, or 2 in a reduction cell.
        projection: `conv` (ReLU-Conv1x1-BN, or FactorizedReduce at stride 2), `pool-pad` (average pooling and zero
            channels, no parameters), `skip-cell` (no connection where shapes differ).
        affine: whether the projection's normalisation is affine (not in search).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, projection: Projection, affine: bool) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride
        self.matches = inputs == outputs and stride == 1
        self.skipped = not self.matches and projection == "skip-cell"
        self.module: nn.Module | None = None
        if not self.matches and projection == "conv":
            self.module = (
                FactorizedReduce(inputs, outputs, affine) if stride == 2 else ReLUConvBN(inputs, outputs, 1, 1, affine)
            )

    def forward(self, s: Tensor) -> Tensor | None:
        """s: (n, inputs, h, w) -> (n, outputs, h/stride, w/stride), or None where the cell is skipped."""
        if self.matches:
            return s
        if self.skipped:
            return None
        if self.module is not None:
            out: Tensor = self.module(s)
            return out
        if self.stride == 2:
            s = F.avg_pool2d(s, 2)
        missing = self.outputs - s.shape[1]
        return F.pad(s, (0, 0, 0, 0, 0, missing)) if missing >= 0 else s[:, : self.outputs]
