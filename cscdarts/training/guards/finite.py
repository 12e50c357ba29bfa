"""What has to stay finite, noted on the device and looked at together: a look makes the device wait."""

from collections.abc import Mapping

import torch
from torch import Tensor

#: How many steps on CUDA go between two looks.
LOOK_EVERY = 50


class Watch:
    """The numbers of some steps in the order in which they were computed, so that the first one that broke is named.

    Args:
        device: where the numbers lie; on the CPU every step is looked at.

    Attributes:
        step: of the newest number, 0 before the first.
    """

    def __init__(self, device: torch.device) -> None:
        self.every = LOOK_EVERY if device.type == "cuda" else 1
        self.step = 0
        self._noted: list[tuple[int, str, Tensor]] = []
        self._steps = 0

    def note(self, step: int, numbers: Mapping[str, Tensor]) -> None:
        """Keep numbers of a step.

        Args:
            numbers: name -> scalar.
        """
        self._steps += step != self.step or not self._noted
        self.step = step
        self._noted += [(step, name, value.detach().float()) for name, value in numbers.items()]

    def due(self, last: bool = False) -> bool:
        """Whether to look now.

        Args:
            last: whether the epoch ends here.
        """
        return last or self._steps >= self.every

    def broken(self) -> tuple[int, str] | None:
        """Step and name of the first number that is not finite, or None; all that was noted is forgotten."""
        noted, self._noted, self._steps = self._noted, [], 0
        if not noted:
            return None
        fine = torch.isfinite(torch.stack([value for _, _, value in noted])).tolist()
        return next(((step, name) for (step, name, _), good in zip(noted, fine, strict=True) if not good), None)


def largest(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> largest magnitude, a scalar that is finite exactly when the whole tensor is."""
    if not tensors:
        return {}
    return dict(zip(tensors, torch._foreach_norm(list(tensors.values()), torch.inf), strict=True))


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first of some tensors with an entry that is not finite, in words; None where all are.

    Args:
        tensors: name -> tensor, as a state dictionary has them; whole numbers are finite.
    """
    floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not floating:
        return None
    fine = torch.stack([torch.isfinite(value).all() for value in floating.values()]).tolist()
    name = next((name for name, good in zip(floating, fine, strict=True) if not good), None)
    running = name is not None and name.rsplit(".", 1)[-1] in ("running_mean", "running_var")
    return f"running statistics {name}" if running else name
