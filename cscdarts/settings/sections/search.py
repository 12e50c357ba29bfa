"""The bilevel search: strategy, order, schedules, how alpha becomes weights, how a cell is derived."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cscdarts.settings.sections.neutral import Neutral
from cscdarts.settings.values import Beta, Frozen, Unreadable, real, whole


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
    #: Stages of a search, each with a supernet that starts afresh; `alpha_warmup` and all schedules are of each stage.
    stages: Annotated[int, Neutral(1)] = Field(default=1, ge=1, le=16)
    #: Of each stage: its epochs as a share of `epochs`, its cells as a share of `supernet.cells`, its `skip_dropout`.
    stage_epochs: Annotated[float, Neutral(1.0)] = Field(default=1.0, gt=0, le=1)
    stage_cells: Annotated[tuple[float, ...], Neutral(())] = Field(default=(), max_length=16)
    stage_skip_dropout: Annotated[tuple[float, ...], Neutral(())] = Field(default=(), max_length=16)
    #: Most operations that an edge has left in the last stage; from all in the first they fall in equal ratios.
    stage_candidates: Annotated[int, Neutral(64)] = Field(default=64, ge=2, le=64)
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

    @property
    def epochs_of_stage(self) -> int:
        """Epochs of each stage; of the search where it has only one."""
        return max(1, int(self.epochs * self.stage_epochs))

    @property
    def all_epochs(self) -> int:
        """Epochs of all stages together."""
        return self.stages * self.epochs_of_stage

    @property
    def first_of_last_stage(self) -> int:
        """The epoch that the last stage begins with: a cell is derived from what comes then."""
        return self.all_epochs - self.epochs_of_stage

    def stage_of(self, epoch: int) -> int:
        """The stage that an epoch belongs to, from 0; after the last epoch still the last one."""
        return min(epoch // self.epochs_of_stage, self.stages - 1)

    def candidates_in(self, stage: int, operations: int) -> int:
        """Most operations that an edge chooses among in a stage: k (m / k)^(stage / (stages - 1)), rounded.

        k = `operations` and m = `stage_candidates`: with three stages and m = 3 of 8 operations 8, 5, 3 (P-DARTS), of 5
        operations 5, 4, 3.
        """
        least = min(self.stage_candidates, operations)
        return round(operations * math.pow(least / operations, stage / max(1, self.stages - 1)))

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
            # PC-DARTS freezes alpha for 15 of 50 epochs, P-DARTS for 10 of the 25 of a stage; the share is kept when
            # the search is shorter or longer.
            try:
                epochs = min(max(whole(values.get("epochs", 50)), 0), 10_000)
                length = int(epochs * min(max(real(values.get("stage_epochs", 1.0)), 0.0), 1.0))
                values["alpha_warmup"] = length * (15 if whole(values.get("stages", 1)) == 1 else 20) // 50
            except Unreadable:  # the field itself says what is wrong
                values["alpha_warmup"] = 0
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min={self.lr_min} is above lr={self.lr}; the schedule goes down")
        if (self.alpha_warmup or 0) >= self.epochs_of_stage and self.strategy == "gradient":
            raise ValueError(
                f"alpha_warmup={self.alpha_warmup} leaves no epoch of {self._length_word()} to learn alpha; lower it"
            )
        self._check_stages()
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

    def _length_word(self) -> str:
        if self.stages == 1 and self.stage_epochs == 1:
            return f"epochs={self.epochs}"
        return f"the {self.epochs_of_stage} of each stage, epochs={self.epochs} times stage_epochs={self.stage_epochs},"

    def _check_stages(self) -> None:
        for name in ("stage_cells", "stage_skip_dropout"):
            found = getattr(self, name)
            if found and len(found) != self.stages:
                raise ValueError(f"{name}={found} with stages={self.stages}: one number for each stage, or none")
        if any(not 0 < share <= 8 for share in self.stage_cells):
            raise ValueError(f"stage_cells={self.stage_cells}: shares of supernet.cells above 0 and at most 8")
        if any(not 0 <= rate < 1 for rate in self.stage_skip_dropout):
            raise ValueError(f"stage_skip_dropout={self.stage_skip_dropout}: probabilities from 0 to below 1")
        if self.stages > 1 and self.strategy == "random-ws":
            raise ValueError(f"stages={self.stages} drop operations by alpha, which strategy=random-ws has not")
