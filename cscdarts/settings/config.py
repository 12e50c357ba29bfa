"""The run configuration: one frozen, validated model, one canonical JSON, one hash. No torch.

A field stands in the hash exactly when it can change what is computed. `runtime` (where and how fast a run goes) and
`labels` (what it is called) cannot, so they stay outside. Every choice the closed paper leaves open is a field here
with a stated default; `cscdarts.settings.open_choices` holds the evidence for each.
"""

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cscdarts.settings.given_cell import canonical_cell
from cscdarts.settings.ratio import Ratio, split_channels
from cscdarts.spaces import SPACES

#: Hashes and keys that are kept: a status asks for those of thousands of runs whenever it looks, and to make one takes
#: 25 times as long as to find it.
REMEMBERED = 2**14
#: Raise when the meaning of a stored config or of the numbers it stands for changes.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added after results were stored: at this value a run is what it was before the field came.

    `square: Annotated[Literal["squeeze", "crop"], Neutral("squeeze")] = "squeeze"`. The canonical JSON leaves the field
    out while it has this value, so that stored hashes stay; any other value is hashed. Changing the default later still
    changes the hash of what takes the default, for the neutral value stays as it is.
    """

    value: object


class Frozen(BaseModel):
    """Base of all configuration: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="strings")


def _without_neutral(model: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """The dumped values of a model, at any depth without the fields that have the value their `Neutral` names."""
    kept = {}
    for name, dumped in values.items():
        value = getattr(model, name)
        neutral = next((m for m in type(model).model_fields[name].metadata if isinstance(m, Neutral)), None)
        if neutral is None or type(value) is not type(neutral.value) or value != neutral.value:
            kept[name] = _without_neutral(value, dumped) if isinstance(value, BaseModel) else dumped
    return kept


def _known_space(name: str) -> str:
    SPACES.require(name, "supernet.space")
    return name


class DataConfig(Frozen):
    """What is learned from. The folder that holds it is a runtime matter; its content is fingerprinted in the
    record."""

    dataset: Literal["digits", "fashion-mnist", "cifar10", "cifar100", "image-folder", "imagenet"] = "digits"
    search_dataset: Literal["same", "digits", "fashion-mnist", "cifar10", "cifar100", "image-folder", "imagenet"] = (
        "same"
    )
    image_size: int | None = Field(default=None, ge=4, le=512)
    search_fraction: float = Field(default=1.0, gt=0, le=1)
    flip: bool | None = None
    crop_padding: int | None = Field(default=None, ge=0, le=64)
    split_seed: int = Field(default=0, ge=0)
    #: How an oblong image becomes square, and what lies behind transparent pixels and beside padded images.
    square: Annotated[Literal["squeeze", "crop", "pad"], Neutral("squeeze")] = "squeeze"
    background: Annotated[Literal["white", "gray", "black"], Neutral("white")] = "white"
    #: What the files of `dataset` and of another searched data set hold, as `cscdarts.data.fingerprint` tells it; empty
    #: where the name alone says it.
    fingerprint: Annotated[str, Neutral("")] = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    search_fingerprint: Annotated[str, Neutral("")] = Field(default="", pattern=r"^([0-9a-f]{16})?$")

    @property
    def searched_dataset(self) -> str:
        """The data set that is searched on; `dataset` is what the derived network is trained on."""
        return self.dataset if self.search_dataset == "same" else self.search_dataset

    @property
    def searched_fingerprint(self) -> str:
        """The fingerprint of the data set that is searched on."""
        return self.fingerprint if self.searched_dataset == self.dataset else self.search_fingerprint

    def fingerprint_of(self, name: str) -> str:
        """The fingerprint of one of the two data sets, by its name."""
        return self.fingerprint if name == self.dataset else self.search_fingerprint


class SupernetConfig(Frozen):
    """The supernet: search space, size, channel-split connection, identity connection."""

    space: Annotated[str, AfterValidator(_known_space)] = "darts"
    ops: tuple[str, ...] | None = None
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


class SearchConfig(Frozen):
    """The bilevel search. Learning-rate schedule of the weights: cosine from `lr` to `lr_min` over `epochs`."""

    strategy: Literal["gradient", "random", "random-ws", "given"] = "gradient"
    #: The cell that `strategy=given` retrains: a known cell's name or its text, kept as its text.
    genotype: Annotated[str, Neutral("")] = ""
    order: Literal[1, 2, "second-exact"] = 2
    xi: Literal["lr"] | float = "lr"
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
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = Field(default=1e-3, ge=0)
    alpha_init_std: float = Field(default=1e-3, ge=0)
    alpha_warmup: int | None = Field(default=None, ge=0)
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
    cosine_every: int = Field(default=0, ge=0)
    hessian_every: int = Field(default=0, ge=0)

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
            epochs = values.get("epochs", 50)
            values["alpha_warmup"] = int(epochs) * 15 // 50 if str(epochs).isdigit() else 0
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.xi, float) and self.xi < 0:
            raise ValueError(f"xi={self.xi}: 'lr' or a step length of at least 0")
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
        if (self.penalty == "none") != (self.penalty_weight == 0):
            raise ValueError(
                f"penalty_weight={self.penalty_weight} with penalty={self.penalty}: a penalty has a weight above 0, "
                "and without one the weight is 0"
            )
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
    warmup_epochs: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=3e-4, ge=0)
    grad_clip: float = Field(default=5.0, gt=0)
    auxiliary: float = Field(default=0.4, ge=0, le=10)
    cutout: int = Field(default=16, ge=0)
    drop_path: float = Field(default=0.2, ge=0, lt=1)
    identity_drop_path: bool = False
    split_eval: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    color_jitter: bool = False
    fit_macs_m: float | None = Field(default=None, gt=0)
    accumulate: int = Field(default=1, ge=1, le=1024)
    amp: Literal["none", "bf16", "fp16"] = "none"
    compile: bool = False
    seed: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of accumulate={self.accumulate}")
        return self


class RuntimeConfig(Frozen):
    """Where and how fast a run goes, and how far: what is computed is the same, so nothing here is hashed.

    Threads, kind of device and determinism (and the number of processes) round otherwise, which a search can amplify;
    they are recorded and compared, see `docs/identity.md`.

    Attributes:
        benchmark: the table that the check looks derived cells up in, as `cscdarts check --benchmark` names it; its
            fingerprint stands in `check.json`.
        retrain: whether the derived network is trained from scratch; without it the run ends with the check.
    """

    device: str = "auto"
    data_root: str = "data"
    threads: int | None = Field(default=None, ge=1)
    workers: int = Field(default=2, ge=0)
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    deterministic: bool = True
    benchmark: str = "embedded"
    retrain: bool = True


class Labels(Frozen):
    """What a run is called in tables. Not hashed: a name changes no number."""

    method: str = "csc"
    scale: str = "custom"
    data: str = ""
    note: str = ""


class RunConfig(Frozen):
    """One run: search, derivation, check and retraining under one seed.

    The hash covers the full resolved config (defaults included), so changing a default later never silently reuses an
    old result.
    """

    schema_version: int = SCHEMA_VERSION
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    supernet: SupernetConfig = SupernetConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    labels: Labels = Labels()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        """A retraining without a seed of its own takes the run's; a given cell becomes its text in the run's space."""
        if not isinstance(values, dict):
            return values
        sections = {name: values.get(name, {}) for name in ("evaluation", "search", "supernet")}
        sections = {name: s.model_dump() if isinstance(s, BaseModel) else s for name, s in sections.items()}
        evaluation, search, supernet = sections.values()
        if isinstance(evaluation, dict) and evaluation.get("seed") is None:
            values = {**values, "evaluation": {**evaluation, "seed": values.get("seed", 0)}}
        if isinstance(search, dict) and isinstance(supernet, dict):
            cell, space = search.get("genotype"), supernet.get("space", "darts")
            if cell and isinstance(cell, str) and isinstance(space, str):
                values = {**values, "search": {**search, "genotype": canonical_cell(cell, space)}}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.evaluation.split_eval and self.supernet.split_pick == "random" and self.supernet.split_ratio < 1:
            raise ValueError(
                "evaluation.split_eval keeps the search's split, but with split_pick=random every step draws another; "
                "set split_pick=first or last, or evaluation.split_eval=False"
            )
        return self

    def canonical(self) -> str:
        """The one JSON text of everything that can change a number: sorted keys, no spaces, without fields at their
        neutral value."""
        return canonical_json(hashed_values(self))

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of `canonical()`."""
        return _hash_of(self)

    def identity_in(self, phase: Literal["search", "eval"]) -> Literal["cell", "edge", "none"]:
        """The identity connection that is active in a phase (`identity` filtered by `identity_phases`)."""
        return self.supernet.identity if self.supernet.identity_phases in ("both", phase) else "none"


@lru_cache(maxsize=REMEMBERED)
def _hash_of(config: RunConfig) -> str:
    return hashlib.sha256(config.canonical().encode()).hexdigest()[:16]


def canonical_json(values: Any) -> str:
    """The one JSON text of plain values: sorted keys, no spaces, ASCII; not-a-number is refused."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hashed_values(config: RunConfig) -> dict[str, Any]:
    """Everything of a config that can change a number, as plain data, without fields at their neutral value."""
    return _without_neutral(config, config.model_dump(mode="json", exclude={"runtime", "labels"}))


def neutral_values(model: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> neutral value, of all fields that have one: what a stored config without the field stands for."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= neutral_values(field.annotation, f"{prefix}{name}.")
        found |= {f"{prefix}{name}": mark.value for mark in field.metadata if isinstance(mark, Neutral)}
    return found
