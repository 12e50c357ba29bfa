"""What kinds of searches and retrainings will take of a GPU: memory, how many fit one at once, and GPU-hours, which are
an estimate until a finished one replaces it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.grid.estimate import Measured, estimate
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Stage

_GIB = 2**30 / 1e9


@dataclass(frozen=True)
class GpuOffer:
    """The GPUs that a place gives to a search or a retraining.

    Attributes:
        memory_gb: of one GPU, 10^9 bytes; None where nobody said.
        sharing: how many processes, a run each, are to share one GPU.
        processes: among how many GPUs one run is divided.
    """

    memory_gb: float | None = None
    sharing: int = 1
    processes: int = 1

    @classmethod
    def of_profile(cls, resources: Any) -> "GpuOffer | None":
        """What a profile's resources say; None where they ask for no GPU.

        Args:
            resources: with `gpus_per_node`, `gres`, `nodes`, `tasks_per_node`, `gpu_mem_gb` (GiB, or None) and
                `runs_per_gpu`.
        """
        if not resources.gpus_per_node and "gpu" not in (resources.gres or ""):
            return None
        memory = resources.gpu_mem_gb
        return cls(
            None if memory is None else memory * _GIB,
            resources.runs_per_gpu,
            resources.nodes * resources.tasks_per_node,
        )


#: What each stage is given, None for no GPU.
Offers = Mapping[Stage, GpuOffer | None]
NO_GPUS: Offers = {"search": None, "retrain": None}


@dataclass(frozen=True)
class Kind:
    """Searches or retrainings that take the same.

    Attributes:
        text: what they are, for people; count: how many are to be done.
        memory_gb: GPU memory of one process, 10^9 bytes; None where it cannot be told before the data are read.
        fits: GPU -> how many such processes it holds at once.
        hours: GPU -> GPU-hours of one of them.
        measured: whether the hours are those that finished ones have taken, wherever these ran.
        offer: the GPUs that they are to run on.
    """

    stage: Stage
    text: str
    count: int
    memory_gb: float | None
    fits: Mapping[str, int]
    hours: Mapping[str, float]
    measured: bool
    offer: GpuOffer

    @property
    def at_once(self) -> int | None:
        """How many such processes one of the offered GPUs holds; None where that is not known."""
        if self.offer.memory_gb is None or self.memory_gb is None:
            return None
        return int(self.offer.memory_gb // self.memory_gb)

    def values(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "stage": self.stage,
            "kind": self.text,
            "count": self.count,
            "memory_gb": self.memory_gb,
            "at_once": self.at_once,
            "fits": dict(self.fits),
            "gpu_hours": dict(self.hours),
            "basis": "measured" if self.measured else "estimate",
        }

    def sentence(self) -> str:
        """One line: what, how many, memory, whether it fits, hours."""
        told = f"{self.count} x {self.text}: "
        if self.memory_gb is None:
            return told + "not known before its data are read"
        told += f"{self.memory_gb:.1f} GB"
        if self.offer.processes > 1:
            told += f" on each of {self.offer.processes} GPUs"
        told += f"; {self._fitting()}; GPU-hours each: "
        if self.measured:
            return told + f"{next(iter(self.hours.values())):.2f}, as finished ones took"
        return told + ", ".join(f"{name} {hours:.2f}" for name, hours in self.hours.items()) + " (estimate)"

    def _fitting(self) -> str:
        fits = self.at_once
        if fits is None:
            return "at once on " + ", ".join(f"{name} {count or 'none'}" for name, count in self.fits.items())
        memory = f"{self.offer.memory_gb:.0f} GB"
        if fits == 0:
            return f"does not fit a GPU of {memory}: lower the batch, or set accumulate or checkpointing"
        if self.offer.sharing > fits:
            return f"{fits} at once on a GPU of {memory}, and runs_per_gpu={self.offer.sharing} is more: lower it"
        return f"{fits} at once on a GPU of {memory}"


def kinds(searched: Iterable[RunConfig], retrained: Iterable[RunConfig], past: Measured, offers: Offers) -> list[Kind]:
    """The kinds of some searches and retrainings, each named by a run that has it.

    Args:
        past: finished ones, whose time takes the place of an estimate.
        offers: the GPUs of each stage; a stage without any is told as if each run had one to itself.
    """
    from cscdarts.forecast.gpus import GPUS
    from cscdarts.forecast.runs import Forecast, retraining_forecast, search_forecast

    def told(
        stage: Stage, configs: Iterable[RunConfig], forecast: Callable[[RunConfig, int], Forecast | None],
        text: Callable[[RunConfig], str], hours: Callable[[RunConfig], float | None],
    ) -> list[Kind]:  # fmt: skip
        offer = offers[stage] or GpuOffer()
        groups: dict[str, list[RunConfig]] = {}
        for config in configs:
            groups.setdefault(text(config), []).append(config)
        found = []
        for name, own in groups.items():
            whole, spent = forecast(own[0], offer.processes), hours(own[0])
            fits = {gpu.name: whole.fit(gpu.memory_gb) for gpu in GPUS.values()} if whole else {}
            taken = {gpu.name: offer.processes * whole.hours(gpu) for gpu in GPUS.values()} if whole else {}
            if spent is not None:
                taken = dict.fromkeys(GPUS, spent)
            memory = whole.memory_gb if whole else None
            found.append(Kind(stage, name, len(own), memory, fits, taken, spent is not None, offer))
        return found

    paid = [config for config in searched if config.search.trains_supernet]
    trained = [config for config in retrained if config.evaluation.epochs > 0]
    return [
        *told("search", paid, lambda config, n: search_forecast(config, processes=n), search_text,
              lambda config: _spent(estimate([config], [], past))),
        *told("retrain", trained, lambda config, n: retraining_forecast(config, processes=n), retraining_text,
              lambda config: _spent(estimate([], [config], past))),
    ]  # fmt: skip


def total_hours(found: Sequence[Kind]) -> dict[str, float]:
    """GPU -> GPU-hours of all together; kinds that nothing is known of are left out."""
    names = dict.fromkeys(name for kind in found for name in kind.hours)
    return {name: sum(kind.count * kind.hours.get(name, 0.0) for kind in found) for name in names}


def search_text(config: RunConfig) -> str:
    """A search in words that tell apart what costs differently."""
    supernet, search = config.supernet, config.search
    parts = [
        f"search {supernet.space} on {config.data.searched_dataset}", _pixels(config), f"C={supernet.channels}",
        f"{supernet.cells} cells", f"ratio {supernet.split_ratio}",
        f"{len(supernet.ops or ())} operations",
        _if(config.identity_in("search") != "none", f"identity {config.identity_in('search')}"),
        _if(config.identity_in("search") == "cell" and supernet.identity_proj != "conv", supernet.identity_proj),
        _if(supernet.split_pick != "first", f"pick {supernet.split_pick}"),
        _if(not supernet.shuffle, "no shuffle"), _if(supernet.edge_norm, "edge norm"),
        _if(supernet.bypass_reduce != "max", f"bypass {supernet.bypass_reduce}"),
        f"order {search.order}" if search.strategy == "gradient" else search.strategy,
        f"batch {search.batch_size}", f"{search.all_epochs} epochs", _if(search.stages > 1, _stages(config)),
        _if(search.strategy == "gradient" and bool(search.alpha_warmup), f"alpha from epoch {search.alpha_warmup}"),
        _if(config.data.search_fraction < 1, f"{config.data.search_fraction:g} of the images"),
        *_computing(search.amp, search.accumulate), _if(search.checkpointing != "none", search.checkpointing),
    ]  # fmt: skip
    return ", ".join(part for part in parts if part)


def _stages(config: RunConfig) -> str:
    """`in stages of 5, 11, 17 cells with 8, 5, 3 operations`."""
    search, operations = config.search, len(config.supernet.ops or ())
    cells = ", ".join(str(config.at_stage(number).supernet.cells) for number in range(search.stages))
    left = ", ".join(str(search.candidates_in(number, operations)) for number in range(search.stages))
    return f"in stages of {cells} cells with {left} operations"


def retraining_text(config: RunConfig) -> str:
    """A retraining in words that tell apart what costs differently; the cell stands in it only where it is given."""
    evaluation, supernet, identity = config.evaluation, config.supernet, config.identity_in("eval")
    parts = [
        f"retraining {supernet.space} on {config.data.dataset}", _pixels(config),
        f"at most {evaluation.fit_macs_m:g} M MACs" if evaluation.fit_macs_m else f"C={evaluation.channels}",
        f"{evaluation.cells} cells", _if(identity != "none", f"identity {identity}"),
        _if(identity == "cell" and supernet.identity_proj != "conv", supernet.identity_proj),
        _if(evaluation.split_eval, f"split {supernet.split_ratio}"), f"batch {evaluation.batch_size}",
        f"{evaluation.epochs} epochs", *_computing(evaluation.amp, evaluation.accumulate),
        _if(evaluation.auxiliary == 0, "no auxiliary head"),
        "its cell" if config.search.strategy == "given" else "as a typical cell",
    ]  # fmt: skip
    told = ", ".join(part for part in parts if part)
    return f"{told} {config.search.genotype}" if config.search.strategy == "given" else told


def _pixels(config: RunConfig) -> str:
    return _if(config.data.image_size is not None, f"{config.data.image_size} pixels")


def _computing(amp: str, accumulate: int) -> tuple[str, str]:
    return _if(amp != "none", amp), _if(accumulate > 1, f"in {accumulate} parts")


def _if(holds: bool, text: str) -> str:
    return text if holds else ""


def _spent(expected: Any) -> float | None:
    hours: float | None = expected.hours
    return hours if expected.known else None
