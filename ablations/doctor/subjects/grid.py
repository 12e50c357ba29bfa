"""A grid's runs: what became of them, whether one fits in memory, whether the disk holds what they will leave."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.question import Question, states_of
from ablations.doctor.subjects.disk import GIB, room
from ablations.doctor.subjects.machine import available_bytes
from ablations.drive.driver import Driver, untouched
from ablations.drive.plan import Plan, plan
from ablations.drive.tell.show import tally
from ablations.grid.estimate import measured
from ablations.grid.forecast import GpuOffer, Offers, kinds
from ablations.run.state import RunState
from cscdarts.settings.config import RunConfig
from slurm.devices import visible_gpus

#: What a process of torch takes before it holds a tensor, bytes.
PROCESS_BYTES = int(0.6 * GIB)
#: Bytes that a parameter takes in checkpoints: float32 weight and momentum, in the last file and the one before it.
CHECKPOINT_BYTES = 2 * (4 + 4)
#: Bytes that records, logs, metrics and the tracker's copy of a run take.
RECORD_BYTES = 2 * 2**20


def standing(question: Question) -> Iterator[Finding]:
    """What has become of the grid's runs."""
    driver = question.driver()
    if driver is None:
        return
    name, states = question.source, states_of(driver, time.time())
    told = f"{driver.grid.name} ({driver.grid.scale}): {tally(states)}"
    broken = [state for state in states if state.status in ("failed", "damaged")]
    lost = [state for state in states if state.status in ("lost", "cancelled")]
    if broken:
        first = broken[0]
        says = f"cscdarts ablate logs {name} {first.hash[:8]} says why; cscdarts ablate retry {name} takes them up."
        yield weak("grid", f"{told}. The first of {len(broken)} that failed: {first.detail}.", says)
    elif lost:
        yield weak("grid", f"{told}.", f"cscdarts ablate run {name} takes them up where they were.")
    else:
        yield good("grid", f"{told}.")


def gpu_memory(question: Question) -> Iterator[Finding]:
    """Whether each kind of run fits the GPUs that it gets, by the forecast of `ablate plan`."""
    driver = question.driver()
    if driver is None:
        return
    offers = _offers(question)
    if not any(offers.values()):
        yield from _on_cpus(question, driver)
        return
    found = kinds(*_plan(driver).left(), measured(driver.runs), offers)
    too_large = [kind for kind in found if kind.at_once == 0]
    crowded = [kind for kind in found if kind.at_once and kind.offer.sharing > kind.at_once]
    unknown = [kind for kind in found if kind.memory_gb is None]
    for kind in (*too_large, *crowded):
        say = bad if kind in too_large else weak
        yield say("GPU memory", f"{kind.sentence()}.", "Or choose other GPUs; docs/gpu.md says how far this holds.")
    if unknown:
        told = f"{len(unknown)} kinds of runs cannot be forecast before their data are read."
        yield good("GPU memory", told)
    rest = [kind for kind in found if kind not in (*too_large, *crowded, *unknown)]
    if rest:
        most = max(rest, key=lambda kind: kind.memory_gb or 0)
        offered = f" of {most.offer.memory_gb:.0f}" if most.offer.memory_gb else ""
        told = f"{len(rest)} kinds of runs take at most {most.memory_gb:.1f}{offered} GB (a forecast)."
        way = "" if most.offer.memory_gb or not question.profile else "--slurm gpu_mem_gb=N says how much there is."
        yield good("GPU memory", told, way)


def _offers(question: Question) -> Offers:
    """The GPUs that runs get: a profile's, or this machine's."""
    if question.profile:
        from slurm.backends.slurm.profile import load_profile

        profile = load_profile(question.profile, question.overrides)
        groups = ("", "") if profile.graph == "single" else ("search", "retrain")
        search, retrain = (GpuOffer.of_profile(profile.resources(group)) for group in groups)
        return {"search": search, "retrain": retrain}
    if not visible_gpus():
        return {"search": None, "retrain": None}
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return {"search": None, "retrain": None}
    memory = min(torch.cuda.get_device_properties(number).total_memory for number in range(count)) / 1e9
    return {"search": GpuOffer(memory), "retrain": GpuOffer(memory)}


def _on_cpus(question: Question, driver: Driver) -> Iterator[Finding]:
    """Main memory of runs without a GPU: the tensors of the forecast and the process around them."""
    left = _plan(driver).left()
    found = kinds(*left, measured(driver.runs), {"search": None, "retrain": None})
    known = [kind.memory_gb for kind in found if kind.memory_gb is not None]
    if not known:
        return
    from cscdarts.forecast.gpus import OUTSIDE_BYTES

    need = max(known) * 1e9 - OUTSIDE_BYTES + PROCESS_BYTES
    told = f"A run without a GPU takes about {need / GIB:.1f} GiB (a forecast)"
    if question.profile:
        from slurm.backends.slurm.profile import load_profile

        profile = load_profile(question.profile, question.overrides)
        for group in ("search", "retrain"):
            own = profile.resources(group)
            if own.mem_gb and need * own.runs_at_once > own.mem_gb * GIB:
                way = f"--slurm mem_gb={need * own.runs_at_once / GIB + 1:.0f}"
                yield weak("memory", f"{told}, and a job of {group} gets {own.mem_gb:g} GiB.", way)
                return
        yield good("memory", f"{told}.")
        return
    from ablations.drive.local import share_of_machine

    states = states_of(driver, time.time())
    workers, _ = share_of_machine(None, len(untouched(states)) or 1)
    free, by = available_bytes()
    if need > free:
        yield bad("memory", f"{told}, and {free / GIB:.1f} GiB can be had by {by}.", "A smaller scale or batch.")
    elif need * workers > free:
        way = f"--parallel {int(free // need)}"
        yield weak("memory", f"{told}, {workers} at once more than the {free / GIB:.1f} GiB of {by}.", way)
    else:
        yield good("memory", f"{told}; {workers} at once fit the {free / GIB:.1f} GiB of {by}.")


def room_for_checkpoints(question: Question) -> Iterator[Finding]:
    """Free space against what the runs that are left will keep."""
    driver = question.driver()
    if driver is None:
        return
    searched, retrained = _plan(driver).left()
    need, unknown = _bytes_of(searched, retrained)
    need += RECORD_BYTES * len(driver.grid.points)
    found = room(Path(question.runs))
    told = f"What is left of {driver.grid.name} will take about {need / GIB:.1f} GiB"
    told += f" ({unknown} searches and retrainings of unknown size left out)" if unknown else ""
    files = 40 * len(driver.grid.points)
    if need > found.free:
        way = "Free some, or --runs FOLDER on another."
        yield bad("disk", f"{told}, and {found.free / GIB:.1f} GiB are free.", way)
    elif found.inodes is not None and files > found.inodes:
        told = f"What is left of {driver.grid.name} will make about {files:,} files, and {found.inodes:,} can be made."
        yield bad("disk", told, "Remove some, or --runs FOLDER on another.")
    elif 2 * need > found.free:
        yield weak("disk", f"{told}, more than half of the {found.free / GIB:.1f} GiB that are free.", "Free some.")
    else:
        yield good("disk", f"{told} of the {found.free / GIB:.1f} GiB that are free.")


def _bytes_of(searched: Sequence[RunConfig], retrained: Sequence[RunConfig]) -> tuple[int, int]:
    """Bytes that checkpoints keep, and of how many searches and retrainings that is not known."""
    from cscdarts.forecast.runs import data_shape, typical_cell
    from cscdarts.models.cost import network_cost, supernet_cost

    sizes: dict[object, int | None] = {}

    def search(config: RunConfig) -> int | None:
        shape = data_shape(config, config.data.searched_dataset)
        if shape is None:
            return None
        place = config.identity_in("search")
        return supernet_cost(config.supernet, place, len(shape.counts), shape.channels, shape.size, 1).params

    def retraining(config: RunConfig) -> int | None:
        shape, place = data_shape(config, config.data.dataset), config.identity_in("eval")
        if shape is None or config.evaluation.fit_macs_m:
            return None
        cell, classes = typical_cell(config), len(shape.counts)
        return network_cost(
            cell, config.evaluation, config.supernet, place, classes, shape.channels, shape.size
        ).params  # fmt: skip

    paid = [config for config in searched if config.search.trains_supernet]
    for kind, configs, count in (("search", paid, search), ("retrain", retrained, retraining)):
        for config in configs:
            key = (kind, config.supernet, config.data, None if kind == "search" else config.evaluation.channels)
            if key not in sizes:
                sizes[key] = count(config)
    total = unknown = 0
    for kind, configs in (("search", paid), ("retrain", retrained)):
        for config in configs:
            size = sizes[kind, config.supernet, config.data,
                         None if kind == "search" else config.evaluation.channels]  # fmt: skip
            total, unknown = (total, unknown + 1) if size is None else (total + CHECKPOINT_BYTES * size, unknown)
    return total, unknown


def _plan(driver: Driver) -> Plan:
    states: list[RunState] = states_of(driver, time.time())
    return plan([(driver, states)])


CHECKS = {"what became of the runs": standing, "memory of a run": gpu_memory, "room for the runs": room_for_checkpoints}
