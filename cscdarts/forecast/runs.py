"""What a run will take of a GPU: memory and hours of its search and of its retraining, before either has begun."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cscdarts.data.limits import KNOWN_SETS, half_size
from cscdarts.forecast.counting import Launch
from cscdarts.forecast.gpus import OUTSIDE_BYTES, Gpu
from cscdarts.forecast.steps import Images, SearchStep, StepCost, plain_search_steps, retraining_step, search_steps
from cscdarts.models.cost import fit_channels, operation_convs
from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.spaces import OPERATIONS, SPACES, Genotype, parse_genotype, random_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES

_GRAY = ("digits", "fashion-mnist")
#: Training images of ILSVRC 2012 in each of its 1000 classes, as good as.
_IMAGENET = (1281,) * 1000
#: Test images of the sets whose images lie on the device.
_TESTED = {"digits": 360, "fashion-mnist": 10_000, "cifar10": 10_000, "cifar100": 10_000}
#: The cell that stands for one that is not derived yet.
TYPICAL = {
    "darts": str(KNOWN_GENOTYPES["DARTS_V2"]),
    "nasbench201": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
}


#: Order of the search -> its step of the architecture.
_ALPHA_STEPS: dict[Literal[1, 2, "second-exact"], SearchStep] = {
    1: "alpha_1st", 2: "alpha_2nd", "second-exact": "alpha_exact",
}  # fmt: skip


@dataclass(frozen=True)
class DataShape:
    """A data set as far as its cost goes.

    Attributes:
        counts: training images of each class.
        channels, size: of an image.
        resident: bytes that its images take on the device, 0 where they are streamed.
    """

    counts: tuple[int, ...]
    channels: int
    size: int
    resident: int

    def images(self, batch: int) -> Images:
        """A batch of it."""
        return Images(len(self.counts), self.channels, self.size, batch)


@dataclass(frozen=True)
class Forecast:
    """What a search or a retraining takes of a GPU.

    Attributes:
        peak: most bytes that tensors and workspaces take at once, the data on the device included.
        work: launches -> how often in each of the steps, by step's name.
        times: how often each step is taken.
    """

    peak: int
    work: Mapping[str, Mapping[Launch, int]]
    times: Mapping[str, float]

    @property
    def memory_gb(self) -> float:
        """GPU memory that its process takes, 10^9 bytes: tensors, workspaces, and what lies outside of both."""
        return (self.peak + OUTSIDE_BYTES) / 1e9

    def hours(self, gpu: Gpu) -> float:
        """GPU-hours on a GPU, an estimate; see `gpus`."""
        return sum(gpu.step_s(self.work[name]) * times for name, times in self.times.items()) / 3600

    def fit(self, memory_gb: float) -> int:
        """How many such processes one GPU of so much memory holds at once."""
        return int(memory_gb // self.memory_gb)


def data_shape(config: RunConfig, name: str) -> DataShape | None:
    """A data set's shape by its name, None where only the data tell it (a tree of the user's)."""
    if name == "imagenet":
        return DataShape(_IMAGENET, 3, config.data.image_size or 224, 0)
    if name not in KNOWN_SETS:
        return None
    counts, side = KNOWN_SETS[name]
    size, channels = config.data.image_size or side, 1 if name in _GRAY else 3
    return DataShape(counts, channels, size, (sum(counts) + _TESTED[name]) * channels * size * size)


def search_forecast(config: RunConfig, plain: bool = False, processes: int = 1) -> Forecast | None:
    """The forecast of a run's search; None where its data are not known by name, or where it trains nothing.

    Of a search in stages each is counted as if the operations with most MACs were left in it, and the peak is that of
    the largest.

    Args:
        plain: edge by edge, as public code does, in place of ours.
        processes: among how many GPUs a batch is divided; the forecast is of one of them.
    """
    shape = data_shape(config, config.data.searched_dataset)
    if shape is None or not config.search.trains_supernet:
        return None
    search, epochs = config.search, config.search.epochs_of_stage
    alpha: SearchStep = _ALPHA_STEPS[search.order]
    half = half_size(shape.counts, config.data.search_fraction)
    steps = max(1, half // search.batch_size)
    times: dict[SearchStep, float] = {"weight": epochs * steps}
    if search.strategy == "gradient":
        times[alpha] = (epochs - (search.alpha_warmup or 0)) * steps
    if not plain:  # the supernet and its derived cell, which off the CPU costs as much; every process sees all images
        times["validation"] = 2 * epochs * half / search.batch_size * processes
    images = shape.images(max(1, search.batch_size // processes))
    costs, taken = dict[str, StepCost](), dict[str, float]()
    for number in range(search.stages):
        here = _search_config(_with_dearest(config, number))
        for name, often in times.items():
            told = name if search.stages == 1 else f"{name} of stage {number + 1}"
            costs[told], taken[told] = _search_cost(here, images, plain, name), often
    return _forecast(costs, taken, shape.resident)


def retraining_forecast(config: RunConfig, cell: Genotype | None = None, processes: int = 1) -> Forecast | None:
    """The forecast of a run's retraining; None where its data are not known by name, or where nothing is trained.

    Args:
        cell: the cell; None takes the one that is given, else a typical one of the space (`TYPICAL`).
        processes: among how many GPUs a batch is divided; the forecast is of one of them.
    """
    shape = data_shape(config, config.data.dataset)
    evaluation = config.evaluation
    if shape is None or evaluation.epochs == 0 or not config.runtime.retrain:
        return None
    images = shape.images(max(1, evaluation.batch_size // processes))
    alike = evaluation.model_copy(update={"seed": None, "lr": 1.0, "lr_min": 0.0, "cutout": 0})
    cost = _retraining_cost(cell or typical_cell(config), alike, _identity_alone(config, "eval"), images)
    steps = evaluation.epochs * max(1, sum(shape.counts) // evaluation.batch_size)
    return _forecast({"retrain": cost}, {"retrain": steps}, shape.resident)


def typical_cell(config: RunConfig) -> Genotype:
    """The given cell, or one that stands for what is not derived yet; of a space of the user's a random one."""
    space = config.supernet.space
    if config.search.strategy == "given":
        return parse_genotype(config.search.genotype, space)
    if space in TYPICAL:
        return parse_genotype(TYPICAL[space], space)
    import numpy as np

    return random_genotype(space, np.random.default_rng(0))


def _forecast(costs: Mapping[str, StepCost], times: Mapping[str, float], resident: int) -> Forecast:
    return Forecast(
        max(cost.peak for cost in costs.values()) + resident,
        {name: dict(cost.counted.kinds) for name, cost in costs.items()},
        dict(times),
    )


def _with_dearest(config: RunConfig, stage: int) -> RunConfig:
    """A run's config in a stage of its search, with as many operations as an edge may have left there: of all the ones
    with most MACs. A space whose edges have candidates of their own keeps all."""
    here, ops = config.at_stage(stage), config.supernet.ops or ()
    keep = config.search.candidates_in(stage, len(ops))
    if keep == len(ops) or SPACES[config.supernet.space].candidates is not None:
        return here

    def macs(op: str) -> int:
        return sum(conv.macs for conv in operation_convs(OPERATIONS[op], config.supernet.channels, 8, 8, 1))

    ranked = sorted(ops, key=lambda op: (-macs(op), OPERATIONS[op].is_zero))
    left = tuple(op for op in ops if op in ranked[:keep])
    return here.model_copy(update={"supernet": here.supernet.model_copy(update={"ops": left})})


def _search_config(config: RunConfig) -> RunConfig:
    """A run's config with all that its search's steps do not hang on at one value, so that equal kinds are counted
    once."""
    kept = ("batch_size", "accumulate", "amp", "checkpointing", "momentum", "nesterov", "weight_decay")
    search = RunConfig().search.model_copy(update={name: getattr(config.search, name) for name in kept})
    return _identity_alone(config, "search").model_copy(update={"search": search})


def _identity_alone(config: RunConfig, phase: Literal["search", "eval"]) -> RunConfig:
    """A config of nothing but the supernet, whose identity is what it is in a phase."""
    place = {"identity": config.identity_in(phase), "identity_phases": "both", "identity_decay": "none"}
    return RunConfig().model_copy(update={"supernet": config.supernet.model_copy(update=place)})


@lru_cache(maxsize=512)
def _search_cost(config: RunConfig, images: Images, plain: bool, name: SearchStep) -> StepCost:
    """A step's cost, once for all searches that have it, whatever their order."""
    return (plain_search_steps if plain else search_steps)(config, images, config.search.amp, (name,))[name]


@lru_cache(maxsize=256)
def _retraining_cost(cell: Genotype, evaluation: EvaluationConfig, config: RunConfig, images: Images) -> StepCost:
    if evaluation.fit_macs_m is not None:
        identity = config.identity_in("eval")
        channels = fit_channels(cell, evaluation, config.supernet, identity, images.classes, images.channels,
                                images.size, limit_macs=evaluation.fit_macs_m * 1e6)  # fmt: skip
        evaluation = evaluation.model_copy(update={"channels": channels})
    return retraining_step(cell, evaluation, config, images, evaluation.amp)
