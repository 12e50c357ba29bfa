"""The supernet: space, size, channel split, identity connection."""

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cscdarts.settings.ratio import Ratio, split_channels
from cscdarts.settings.values import Frozen
from cscdarts.spaces import SPACES


def _known_space(name: str) -> str:
    SPACES.require(name, "supernet.space")
    return name


class SupernetConfig(Frozen):
    """The supernet: search space, size, channel-split connection, identity connection."""

    space: Annotated[str, AfterValidator(_known_space), Field(description="a search space's name")] = "darts"
    ops: tuple[str, ...] | None = Field(default=None, max_length=64, description="operations with commas between")
    channels: int = Field(default=16, ge=2, le=1024)
    cells: int = Field(default=8, ge=1, le=64)
    split_ratio: Ratio = Fraction(1, 2)
    split_pick: Literal["first", "last", "random"] = "first"
    shuffle: bool = True
    edge_norm: bool = False
    bypass_reduce: Literal["max", "avg", "factorized", "nosplit"] = "max"
    identity: Literal["cell", "edge", "none"] = "cell"
    identity_scale: float = Field(default=1.0, ge=0, le=10)
    identity_decay: Literal["none", "linear"] = "none"
    identity_proj: Literal["conv", "pool-pad", "skip-cell"] = "conv"
    identity_phases: Literal["both", "search", "eval", "none"] = "both"

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("ops") is not None:
            return values
        name = values.get("space", "darts")
        return {**values, "ops": SPACES[name].ops} if isinstance(name, str) and name in SPACES else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = SPACES[self.space].ops
        if not self.ops or len(self.ops) < 2 or len(set(self.ops)) != len(self.ops):
            raise ValueError(f"ops={self.ops}: at least two different operations of {', '.join(known)}")
        SPACES[self.space].require_operations(self.ops, "supernet.ops")
        if int(self.split_ratio * self.channels) < 2:
            raise ValueError(
                f"split_ratio={self.split_ratio} of channels={self.channels} leaves fewer than 2 channels to the "
                f"operations; use at least {Fraction(2, self.channels)} or more channels"
            )
        if split_channels(self.channels, self.split_ratio) >= self.channels and self.split_ratio < 1:
            raise ValueError(
                f"split_ratio={self.split_ratio} of channels={self.channels} leaves nothing to split; "
                "use more channels or split_ratio=1"
            )
        if self.identity_decay != "none" and self.identity_phases not in ("search", "none"):
            raise ValueError(
                f"identity_decay={self.identity_decay} ends at scale 0, so nothing is left to keep in evaluation; "
                "set identity_phases=search"
            )
        if self.identity == "none" and self.identity_decay != "none":
            raise ValueError("identity_decay needs an identity; set identity=edge or identity=cell")
        return self
