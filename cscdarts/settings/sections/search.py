"""The bilevel search: strategy, order, schedules, how alpha becomes weights, how a cell is derived."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cscdarts.settings.sections.neutral import Neutral
from cscdarts.settings.values import Beta, Frozen, Unreadable, whole


class SearchConfig(Frozen):
    """The bilevel search. Learning-rate schedule of the weights: cosine from `lr` to `lr_min` over `epochs`."""

    strategy: Literal["gradient", "random", "random-ws", "given"] = "gradient"
    #: The cell that `strategy=given` retrains: a known cell's name or its text, kept as its text.
    genotype: Annotated[str, Neutral("")] = Field(default="", description="a cell's name or text")
    order: Literal[1, 2, "second-exact"] = 2
    xi: Literal["lr"] | Annotated[float, Field(ge=0)] = Field(default="lr", description="lr, or a number of at least 0")
    eps: float = Field(default=0.01, gt=0, le=10)
    epochs: int = Field(default=50, ge=1, le=10_000)
    batch_size: int = Field(default=64, ge=2, le=65536)
    lr: float = Field(default=0.025, gt=0)
    lr_min: float = Field(default=0.001, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=3e-4, ge=0)
    grad_clip: float = Field(default=5.0, gt=0)
    alpha_lr: float = Field(default=3e-4, gt=0)
    alpha_betas: tuple[Beta, Beta] = Field(default=(0.5, 0.999), description="two numbers from 0 to below 1")
    alpha_weight_decay: float = Field(default=1e-3, ge=0)
    alpha_init_std: float = Field(default=1e-3, ge=0)
    alpha_warmup: int | None = Field(default=None, ge=0, le=10_000)
    #: How alpha becomes mixing weights; of the Gumbel weightings the temperature in the first and in the last epoch.
    weighting: Annotated[Literal["softmax", "sigmoid", "gumbel", "gumbel-hard", "dirichlet"], Neutral("softmax")] = (
        "softmax"
    )
    temperature: Annotated[float, Neutral(1.0)] = Field(default=1.0, gt=0, le=1000)
    temperature_end: Annotated[float, Neutral(1.0)] = Field(default=1.0, gt=0, le=1000)
    #: Half the width of the uniform noise that weight steps see on alpha, in the last epoch; it grows from 0.03.
    alpha_noise: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, le=10)
    #: A penalty on alpha in the architecture step, its weight, and whether that grows from 0 over the epochs.
    penalty: Annotated[Literal["none", "zero-one", "log-sum-exp"], Neutral("none")] = "none"
    penalty_weight: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, le=1e6)
    penalty_rise: Annotated[Literal["constant", "linear"], Neutral("constant")] = "constant"
    #: Probability, at the start, that an edge goes without its skip connection in a step.
    skip_dropout: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, lt=1)
    derive: Literal["last", "best", "skip-stop", "eigenvalue-stop", "skip-cap", "perturbation"] = "last"
    #: Of `derive=skip-stop` and `skip-cap`: skip connections in the normal cell at which to stop, or that are kept.
    derive_skips: Annotated[int, Neutral(2)] = Field(default=2, ge=0, le=64)
    #: Of `derive=eigenvalue-stop`: epochs of its running mean and of its look back, and the growth that stops, which
    #: Zela et al. 2020 print as a ratio of 0.75.
    derive_window: Annotated[int, Neutral(5)] = Field(default=5, ge=1, le=1000)
    derive_growth: Annotated[float, Neutral(4 / 3)] = Field(default=4 / 3, gt=1, le=100)
    #: Of `derive=perturbation`: epochs of training after each decision.
    derive_finetune: Annotated[int, Neutral(5)] = Field(default=5, ge=0, le=1000)
    #: Searches with the seeds `seed`, `seed` + 1, ... of which the cell with the lowest validation error is derived.
    best_of: Annotated[int, Neutral(1)] = Field(default=1, ge=1, le=100)
    random_candidates: int = Field(default=1, ge=1, le=100_000)
    accumulate: int = Field(default=1, ge=1, le=1024)
    amp: Literal["none", "bf16", "fp16"] = "none"
    compile: bool = False
    checkpointing: Literal["none", "node", "cell"] = "none"
    cosine_every: int = Field(default=0, ge=0, le=10_000)
    hessian_every: int = Field(default=0, ge=0, le=10_000)

    @property
    def trains_supernet(self) -> bool:
        """Whether the strategy trains a supernet: a random or given cell needs none, and reads no data."""
        return self.strategy not in ("random", "given")

    @model_validator(mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        words = {"1": 1, "first": 1, "2": 2, "second": 2}
        values = dict(values)
        if isinstance(values.get("order"), str):
            values["order"] = words.get(values["order"], values["order"])
        if values.get("alpha_warmup") is None:
            # PC-DARTS freezes alpha for 15 of 50 epochs; the share is kept when the search is shorter or longer.
            try:
                values["alpha_warmup"] = min(max(whole(values.get("epochs", 50)), 0) * 15 // 50, 10_000)
            except Unreadable:  # the field itself says what is wrong
                values["alpha_warmup"] = 0
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min={self.lr_min} is above lr={self.lr}; the schedule goes down")
        if self.alpha_warmup is not None and self.alpha_warmup >= self.epochs and self.strategy == "gradient":
            raise ValueError(
                f"alpha_warmup={self.alpha_warmup} leaves no epoch of epochs={self.epochs} to learn alpha; lower it"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of accumulate={self.accumulate}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        if (self.strategy == "given") != bool(self.genotype):
            raise ValueError(
                f"genotype={self.genotype[:40]!r} with strategy={self.strategy}: a cell is given with strategy=given "
                "and search.genotype=CELL, and only so"
            )
        if self.penalty == "none" and self.penalty_weight:
            raise ValueError(f"penalty_weight={self.penalty_weight} weighs no penalty; choose search.penalty, or 0")
        if self.derive == "perturbation" and self.strategy != "gradient":
            raise ValueError(f"derive=perturbation needs a supernet with alpha, not strategy={self.strategy}")
        if self.derive == "perturbation" and self.best_of > 1:
            raise ValueError("derive=perturbation with best_of above 1: choose one of them")
        if self.derive == "eigenvalue-stop" and not self.hessian_every and self.strategy == "gradient":
            raise ValueError("derive=eigenvalue-stop reads eigenvalues, which hessian_every records; set it, say to 1")
        if self.derive == "eigenvalue-stop" and self.hessian_every > self.derive_window:
            raise ValueError(
                f"derive_window={self.derive_window} epochs may hold no eigenvalue with hessian_every="
                f"{self.hessian_every}; lower that or widen the window"
            )
        if self.derive == "skip-stop" and not self.derive_skips:
            raise ValueError("derive_skips=0 stops a search before it begins; derive=skip-stop takes 1 or more")
        return self
