"""The SLURM cluster: commands, controller, accounting, partitions. Only questions are asked, nothing is submitted."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby

from ablations.doctor.finding import Attachment, Finding, Named, bad, good, weak
from ablations.doctor.packages import way_to_have
from ablations.doctor.question import Question
from slurm.backends.slurm.options.values import minutes
from slurm.backends.slurm.scheduler import COMMANDS, ask, installed
from slurm.errors import ClusterError

#: Seconds that one question to the cluster may take.
ASK_S = 20.0
#: States of nodes that take no job until somebody brings them back.
_OUT = ("down", "drain", "fail", "unknown", "error", "maint", "inval", "future", "powered_down", "not_resp")


@dataclass(frozen=True)
class Node:
    """A node as a partition has it.

    Attributes:
        partition: its name; default: whether jobs that name none go there; open: whether it takes jobs.
        minutes: the longest time of a job; None for any.
        cores, memory_gib, gpus: of the node; kinds: of its GPUs; features: for `constraint`.
        usable: whether it will take a job again by itself.
    """

    partition: str
    default: bool
    open: bool
    minutes: int | None
    name: str
    cores: int
    memory_gib: float
    gpus: int
    kinds: frozenset[str]
    features: frozenset[str]
    usable: bool


def parse_nodes(text: str) -> list[Node]:
    """The lines of `sinfo -N -h -o '%P|%a|%l|%N|%c|%m|%G|%f|%T'`."""
    found = []
    for line in text.splitlines():
        words = line.split("|")
        if len(words) != 9:
            continue
        partition, standing, longest, name, cores, memory, gres, features, state = (word.strip() for word in words)
        gpus, kinds = _gpus(gres)
        plain = re.sub(r"[^a-z_]", "", state.lower())
        found.append(Node(
            partition.rstrip("*"), partition.endswith("*"), standing == "up", time_limit(longest), name,
            int(re.sub(r"\D", "", cores) or 0), int(re.sub(r"\D", "", memory) or 0) / 1024, gpus, kinds,
            frozenset(features.split(",")) - {"(null)", ""}, not plain.startswith(_OUT),
        ))  # fmt: skip
    return found


def time_limit(text: str) -> int | None:
    """Minutes of a limit as SLURM writes it; None where there is none."""
    try:
        return int(minutes(text.strip()))
    except ValueError:
        return None


def _gpus(gres: str) -> tuple[int, frozenset[str]]:
    """`gpu:a100:4(S:0-1),gpu:2` -> 6 GPUs, among them a100."""
    number, kinds = 0, set[str]()
    for part in re.sub(r"\([^)]*\)", "", gres).split(","):
        words = part.split(":")
        if words[0] == "gpu":
            number += int(words[-1]) if words[-1].isdigit() else 1
            kinds |= {word for word in words[1:] if not word.isdigit()}
    return number, frozenset(kinds)


def nodes() -> list[Node]:
    """Every node of every partition.

    Errors:
        ClusterError: the cluster does not answer.
    """
    return parse_nodes(ask(["sinfo", "-N", "-h", "-o", "%P|%a|%l|%N|%c|%m|%G|%f|%T"], ASK_S))


def configuration() -> dict[str, str]:
    """The controller's settings.

    Errors:
        ClusterError: the cluster does not answer.
    """
    found = {}
    for line in ask(["scontrol", "show", "config"], ASK_S).splitlines():
        key, separator, value = line.partition("=")
        if separator:
            found[key.strip()] = value.strip()
    return found


def commands(question: Question) -> Iterator[Finding]:
    """The commands of a machine that can submit jobs."""
    if question.profile and find_spec("submitit") is None:
        yield bad("SLURM", "submitit is not installed, which submits the jobs.", way_to_have("submitit"))
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if not missing:
        yield good("SLURM", f"{ask(['sinfo', '--version'], ASK_S).strip()}: {', '.join(COMMANDS)} are there.")
    elif question.profile:
        way = "Use a login node of the cluster, or try `make slurm-up`."
        yield bad("SLURM", f"{', '.join(missing)} missing on this machine.", way)
    elif len(missing) < len(COMMANDS):
        yield weak(
            "SLURM", f"{', '.join(missing)} missing on this machine.", "Install slurm-client, or use `--on local`."
        )
    else:
        yield good("SLURM", "None on this machine: runs go here.")


def controller(question: Question) -> Iterator[Finding | Named]:
    """Whether the controller answers."""
    if not installed():
        return
    try:
        settings = configuration()
    except ClusterError as error:
        yield _silent(question, error)
        return
    hosts = {re.sub(r"\(.*\)", "", value) for key, value in settings.items()
             if key.startswith("SlurmctldHost") or key == "AccountingStorageHost"}  # fmt: skip
    yield Named("host", tuple(sorted(hosts)))
    yield good("SLURM", f"The controller of {settings.get('ClusterName', 'the cluster')} answers.")


def accounting(question: Question) -> Iterator[Finding]:
    """Whether accounting answers: only it tells how jobs ended."""
    if not installed():
        return
    try:
        ask(["sacct", "-n", "-X", "-o", "JobID"], ASK_S)
    except ClusterError as error:
        yield _silent(question, error)
        return
    yield good("SLURM", "Accounting answers.")


def _silent(question: Question, error: ClusterError) -> Finding:
    """What does not answer is bad where runs are to go there."""
    if question.profile:
        return bad("SLURM", str(error), "Jobs need its controller, and its accounting to learn how they ended.")
    return weak("SLURM", str(error), "Runs on this machine do not need it.")


def partitions(question: Question) -> Iterator[Finding | Named]:
    """The partitions, each with what a job can have there."""
    if not installed():
        return
    try:
        found = nodes()
    except ClusterError as error:
        yield _silent(question, error)
        return
    yield Named("host", tuple(sorted({node.name for node in found})))
    if not found:
        yield bad("SLURM", "It tells of no partition that you may use.", "Ask for an account there.")
    for name, group in groupby(sorted(found, key=_partition), key=_partition):
        yield _told(name, list(group))


def _partition(node: Node) -> str:
    return node.partition


def _told(name: str, own: Sequence[Node]) -> Finding:
    usable = [node for node in own if node.usable]
    limit = own[0].minutes
    told = f"Partition {name}{' (the default)' if own[0].default else ''}: {len(usable)} of {len(own)} nodes usable, "
    told += f"at most {max(node.cores for node in own)} cores, {max(node.memory_gib for node in own):.0f} GiB, "
    told += f"{max(node.gpus for node in own)} GPUs each, "
    told += "no time limit" if limit is None else f"jobs of at most {limit / 60:g} h"
    if not own[0].open:
        return weak("SLURM", f"{told}; it takes no jobs now.", "--slurm partition=ANOTHER")
    if not usable:
        return weak("SLURM", f"{told}.", "`sinfo -R` says why; --slurm partition=ANOTHER")
    return good("SLURM", f"{told}.")


def record(question: Question) -> Iterator[Attachment | Named]:
    """What a bundle says of the cluster."""
    if not installed():
        return
    settings = configuration()
    lines = [f"{key} = {settings[key]}" for key in sorted(settings) if key in _TOLD]
    lines.append(ask(["sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G|%T"], ASK_S))
    yield Attachment("slurm.txt", "\n".join(lines) + "\n")


_TOLD = frozenset({
    "AccountingStorageEnforce", "AccountingStorageType", "EnforcePartLimits", "JobRequeue", "KillWait", "MaxArraySize",
    "MaxJobCount", "MinJobAge", "PreemptMode", "PreemptType", "PriorityType", "ProctrackType", "SchedulerParameters",
    "SchedulerType", "SelectType", "SelectTypeParameters", "SLURM_VERSION", "TaskPlugin",
})  # fmt: skip


CHECKS = {"commands": commands, "the controller": controller, "accounting": accounting, "partitions": partitions}
