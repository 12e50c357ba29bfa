"""The retraining of the derived network."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cscdarts.settings.values import Frozen


class EvaluationConfig(Frozen):
    """Retraining of the derived network from scratch."""

    channels: int = Field(default=36, ge=2, le=4096)
    cells: int = Field(default=20, ge=1, le=200)
    epochs: int = Field(default=600, ge=0, le=100_000)
    batch_size: int = Field(default=96, ge=2, le=65536)
    lr: float = Field(default=0.025, gt=0)
    lr_min: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "linear", "exponential"] = "cosine"
    lr_gamma: float = Field(default=0.97, gt=0, le=1)
    warmup_epochs: int = Field(default=0, ge=0, le=100_000)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=3e-4, ge=0)
    grad_clip: float = Field(default=5.0, gt=0)
    auxiliary: float = Field(default=0.4, ge=0, le=10)
    cutout: int = Field(default=16, ge=0, le=512)
    drop_path: float = Field(default=0.2, ge=0, lt=1)
    identity_drop_path: bool = False
    split_eval: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    color_jitter: bool = False
    fit_macs_m: float | None = Field(default=None, gt=0, le=1e6)
    accumulate: int = Field(default=1, ge=1, le=1024)
    amp: Literal["none", "bf16", "fp16"] = "none"
    compile: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of accumulate={self.accumulate}")
        if self.lr_min > self.lr and self.schedule != "exponential":
            raise ValueError(f"lr_min={self.lr_min} is above lr={self.lr}; the schedule goes down")
        if self.warmup_epochs >= self.epochs > 0 and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves no epoch of epochs={self.epochs} at the full rate; lower it"
            )
        return self
