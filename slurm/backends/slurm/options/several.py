"""Several runs in one job at once: how many there are, on how many GPUs, and what cannot be."""

import re
from collections.abc import Mapping
from typing import Protocol

from slurm.backends.slurm.options.wording import Sentence

_GRES_GPU = re.compile(r"(?:gres:|gres/)?gpu(?::[A-Za-z_][\w.-]*)?(?:[:=](\d+))?(?:\(.*\))?")
#: Further options of sbatch that ask for GPUs, and those by which a job has several processes.
_GPU_OPTIONS = ("gpus", "gpus-per-node", "gpus-per-task")
_PROCESS_OPTIONS = ("ntasks", "ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket")


class Asked(Protocol):
    """What counts of a profile."""

    @property
    def nodes(self) -> int: ...

    @property
    def tasks_per_node(self) -> int: ...

    @property
    def gpus_per_node(self) -> int: ...

    @property
    def gres(self) -> str | None: ...

    @property
    def runs_per_node(self) -> int | None: ...

    @property
    def runs_per_gpu(self) -> int: ...

    @property
    def environment(self) -> Mapping[str, str]: ...

    @property
    def extra(self) -> Mapping[str, str | int | bool]: ...


def runs_at_once(asked: Asked) -> int:
    """How many runs a job works on at once, a process each: a GPU each (or a part of the node where there are none),
    times those that share a GPU."""
    return (asked.runs_per_node or 1) * asked.runs_per_gpu


def gpus_asked(asked: Asked) -> int:
    """How many GPUs of a node a job asks for, in whichever way; 0 where it names none."""
    if asked.gpus_per_node:
        return asked.gpus_per_node
    for name in _GPU_OPTIONS:
        if (value := asked.extra.get(name)) not in (None, False, True):
            number = str(value).rpartition(":")[2]
            return int(number) if number.isdecimal() else 1
    found = [match for part in (asked.gres or "").split(",") if (match := _GRES_GPU.fullmatch(part.strip()))]
    return sum(int(match.group(1) or 1) for match in found)


def require_possible(asked: Asked, where: str) -> None:
    """Refuse numbers of runs that a job cannot have at once.

    Args:
        where: begins the keys' names: "" or `groups.search.`.

    Errors:
        Sentence: it says what, and the way out.
    """
    runs, several, gpus = runs_at_once(asked), asked.runs_per_node, gpus_asked(asked)
    keys = f"{where}runs_per_node={several}" if several else f"{where}runs_per_gpu={asked.runs_per_gpu}"
    if runs == 1:
        return
    processes = asked.nodes * asked.tasks_per_node
    named = [name for name in _PROCESS_OPTIONS if name in asked.extra]
    if processes > 1 or named:
        what = f"extra.{named[0]}" if named else f"nodes={asked.nodes} and tasks_per_node={asked.tasks_per_node}"
        raise Sentence(
            f"{keys} gives each run one process on one node, and {what} gives a run several. "
            f"Set nodes and tasks_per_node to 1, or leave {keys.partition('=')[0]} out."
        )
    if several and gpus and several > gpus:
        raise Sentence(
            f"{keys} is more than the {gpus} GPUs of a node that are asked for. Ask for {several}, set "
            f"{where}runs_per_node={gpus}, or let runs share GPUs with {where}runs_per_gpu={-(-several // gpus)}."
        )
    if asked.runs_per_gpu > 1:
        if asked.environment.get("CUDA_VISIBLE_DEVICES", "all") == "" or not (gpus or several):
            raise Sentence(
                f"{where}runs_per_gpu={asked.runs_per_gpu} needs a GPU, and none is asked for. Set gpus_per_node, or "
                f"leave {where}runs_per_gpu out."
            )
        if not several and gpus > 1:
            raise Sentence(
                f"{where}runs_per_gpu={asked.runs_per_gpu} would leave {gpus - 1} of {gpus} GPUs idle. Set "
                f"{where}runs_per_node={gpus} as well, or ask for one GPU."
            )
