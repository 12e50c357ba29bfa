"""Where and at what size the check of a GPU measures, and what it finds."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cscdarts.forecast.steps import Images
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values

#: Space and split ratio of the supernets that are looked at.
CASES = (("darts", "1"), ("darts", "1/4"), ("nasbench201", "1"))


@dataclass(frozen=True)
class Setting:
    """Where and at what size a part measures.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: sizes that a CPU goes through in seconds: only that the check itself works.
        place: a folder for data and runs.
        until: `time.monotonic()` at which the part must have ended.
    """

    device: str
    tiny: bool
    place: Path
    until: float

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU; elsewhere nothing is said of goals that are about GPUs."""
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds until the part must have ended."""
        return self.until - time.monotonic()

    def size(self, space: str) -> dict[str, Any]:
        """Channels, cells, batch and image size of a supernet of a space."""
        cells = {"darts": 3, "nasbench201": 1} if self.tiny else {"darts": 8, "nasbench201": 5}
        return {"channels": 4 if self.tiny else 16, "cells": cells[space], "batch": 4 if self.tiny else 64,
                "image_size": 8 if self.tiny else 32}  # fmt: skip

    def config(self, space: str, ratio: str, **values: Any) -> RunConfig:
        """A run's config of that size, without identity."""
        size = self.size(space)
        named = {"space": space, "split_ratio": ratio if not self.tiny or ratio == "1" else "1/2", "identity": "none",
                 "channels": size["channels"], "cells": size["cells"]}  # fmt: skip
        return with_values(RunConfig(), {f"supernet.{key}": value for key, value in named.items()} | values)

    def images(self, space: str) -> Images:
        """A batch of that size, as the forecast takes it."""
        size = self.size(space)
        return Images(10, 3, size["image_size"], size["batch"])


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        name: what was looked at; value: what came out; goal: what was asked of it, "" for nothing.
        holds: whether it is as asked; None where nothing is asked on this device.
        values: numbers for the record.
    """

    name: str
    value: str
    goal: str = ""
    holds: bool | None = None
    values: dict[str, Any] | None = None
