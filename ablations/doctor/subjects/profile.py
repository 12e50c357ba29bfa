"""The limits of a cluster that bind a profile and a grid: what would wait for ever, be refused or be cut short."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.doctor.finding import Finding, Named, bad, good, weak
from ablations.doctor.privacy.scripts import hidden_texts
from ablations.doctor.question import Question, states_of
from ablations.doctor.subjects.cluster import ASK_S, Node, configuration, nodes, time_limit
from ablations.drive.driver import untouched
from slurm.backends.slurm.options.sbatch import submission_variables
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.backends.slurm.scheduler import ask, installed
from slurm.errors import ClusterError


def groups_of(profile: Profile) -> dict[str, Profile]:
    """Group of stages -> what its jobs ask for."""
    if profile.graph == "single":
        return {"all stages": profile}
    return {group: profile.resources(group) for group in ("search", "retrain")}


def read(question: Question) -> Iterator[Finding | Named]:
    """The profile itself, and what it says of this machine's files."""
    if not question.profile:
        return
    profile = load_profile(question.profile, question.overrides)
    yield Named("account", tuple(name for name in (profile.account,) if name))
    yield Named("secret", hidden_texts(profile.model_dump(mode="json")))
    for image in re.findall(r"/\S+\.(?:sif|sqsh|img)\b", profile.container or ""):
        if not Path(image).exists():
            yield weak("profile", f"The container's image {image} is not on this machine.", "Correct `container`.")
    asks = "; ".join(f"{group}: {_asked(own)}" for group, own in groups_of(profile).items())
    yield good("profile", f"slurm:{question.profile} asks for {asks}.")


def _asked(own: Profile) -> str:
    cores = own.cpus_per_task * own.runs_at_once
    parts = [f"{own.nodes} node{'s' * (own.nodes != 1)}", f"{cores} core{'s' * (cores != 1)} a task"]
    parts += [f"{own.gpus_per_node} GPUs a node"] if own.gpus_per_node else []
    parts += [f"{own.mem_gb:g} GiB"] if own.mem_gb else []
    return ", ".join([*parts, f"{own.time_min / 60:g} h"])


def partition(question: Question) -> Iterator[Finding]:
    """Whether the partition has nodes that such a job fits."""
    if not question.profile or not installed():
        return
    every = nodes()
    for group, own in groups_of(load_profile(question.profile, question.overrides)).items():
        yield from fitting(group, own, every)


def fitting(group: str, own: Profile, every: Sequence[Node]) -> Iterator[Finding]:
    """Whether some nodes of the partition fit the jobs of a group; the first demand that none meets is told."""
    asked = own.partition.split(",") if own.partition else [node.partition for node in every if node.default]
    names = ", ".join(sorted({node.partition for node in every})) or "none"
    there = [node for node in every if node.partition in asked]
    if not there:
        told = "there is no default partition" if not own.partition else f"there is no partition {own.partition}"
        yield bad("profile", f"{group}: {told}; there are {names}.", "--slurm partition=NAME")
        return
    where = "partition " + ",".join(sorted({node.partition for node in there}))
    longest = [node.minutes for node in there]
    if None not in longest and own.time_min > (most := max(one for one in longest if one is not None)):
        told = f"{group}: jobs of {own.time_min} min, and {where} allows {most}"
        yield bad("profile", f"{told}: they would be refused or wait for ever.", f"--slurm time_min={most}")
    fits, gpus = [True] * len(there), own.gpus_per_node or _gres_gpus(own.gres or "")
    tasks = own.tasks_per_node
    memory: float = (
        own.mem_gb or (own.mem_per_cpu_gb or 0) * own.cpus_per_task * tasks or (own.mem_per_gpu_gb or 0) * gpus
    )
    cores = own.cpus_per_task * own.runs_at_once * tasks
    demands: tuple[tuple[str, float, list[float], str], ...] = (
        ("gpus_per_node", gpus, [float(node.gpus) for node in there], "GPUs"),
        ("cpus_per_task", cores, [float(node.cores) for node in there], "cores"),
        ("mem_gb", memory, [node.memory_gib for node in there], "GiB of memory"),
    )
    for key, need, have, unit in demands:
        largest = max(have)
        if need > largest:
            told = f"{group}: {need:g} {unit} on one node, and the largest of {where} has {largest:.4g}"
            yield bad("profile", f"{told}: such jobs never start.", f"--slurm {key}=..., or another partition")
            return
        fits = [before and one >= need for before, one in zip(fits, have, strict=True)]
    words = re.split(r"[&|,()\[\]]", re.sub(r"\*\d+", "", own.constraint or ""))  # `[a*2&b*4]` counts nodes
    features = {word.strip() for word in words} - {""}
    if missing := features - set().union(*(node.features for node in there)):
        told = f"{group}: no node of {where} has the feature {', '.join(sorted(missing))}"
        yield bad("profile", f"{told}.", "Correct `constraint`; `sinfo -o '%N %f'` lists them.")
        return
    left = [node for node, fit in zip(there, fits, strict=True) if fit]
    usable = [node for node in left if node.usable]
    if len({node.name for node in left}) < own.nodes:
        told = f"{group}: {own.nodes} nodes, and {where} has {len({node.name for node in left})} that fit"
        yield bad("profile", f"{told}: such jobs never start.", "--slurm nodes=..., or another partition")
    elif len({node.name for node in usable}) < own.nodes:
        told = f"{group}: of the {len(left)} nodes of {where} that fit, {len(usable)} in service"
        yield weak("profile", f"{told}: jobs wait until more are.", "`sinfo -R` says why they are out.")
    else:
        count = len({node.name for node in usable})
        yield good(
            "profile", f"{group}: {count} node{'s' * (count != 1)} of {where} fit{'s' * (count == 1)} such a job."
        )


def _gres_gpus(gres: str) -> int:
    return sum(int(match.group(1) or 1) for match in re.finditer(r"\bgpu(?::[A-Za-z]\w*)?(?::(\d+))?", gres))


def numbers(question: Question) -> Iterator[Finding | Named]:
    """How many jobs the grid makes, against what the cluster, the association and the QOS take."""
    driver = question.driver()
    if driver is None or not question.profile or not installed():
        return
    profile = load_profile(question.profile, question.overrides)
    runs = len(untouched(states_of(driver, time.time())))
    elements = -(-runs // profile.runs_of_job)
    jobs = elements * len(groups_of(profile))
    settings = configuration()
    largest = _number(settings, "MaxArraySize")
    parts = f"arrays of at most {largest}" if largest and elements > largest else "one array for each group"
    told = f"{runs} runs to do: {jobs} jobs, {parts}"
    bounds: dict[str, int] = {}
    if whole := _number(settings, "MaxJobCount"):
        queued = len(ask(["squeue", "-h", "-r", "-t", "all", "-o", "%i"], ASK_S).split())
        bounds["the cluster's MaxJobCount, less what is in its queue"] = whole - queued
    found = _association(profile)
    yield Named("account", tuple(found.accounts))
    bounds |= found.most_jobs
    exceeded = {name: limit for name, limit in bounds.items() if jobs > limit}
    if exceeded:
        name, limit = min(exceeded.items(), key=lambda one: one[1])
        way = f"--slurm runs_per_job={_runs_per_job(runs, len(groups_of(profile)), limit)}"
        yield bad("jobs", f"{told}, more than {max(0, limit)} ({name}): sbatch refuses what is beyond.", way)
    else:
        yield good("jobs", f"{told}.")
    longest = max(own.time_min for own in groups_of(profile).values())
    for name, most in found.longest.items():
        if longest > most:
            yield bad("jobs", f"Jobs of {longest} min, and {name} allows {most}.", f"--slurm time_min={most}")
    if found.problem:
        yield weak("jobs", found.problem, "Ask whoever runs the cluster, or --slurm account=NAME.")


def _runs_per_job(runs: int, groups: int, limit: int) -> int:
    """So many runs in a job that the jobs stay within a limit."""
    return -(-runs // max(1, limit // groups))


def _number(settings: dict[str, str], key: str) -> int | None:
    match = re.match(r"\d+", settings.get(key, ""))
    return int(match.group()) if match else None


class _Bounds:
    """What the accounting allows this user: limit's name -> number."""

    def __init__(self) -> None:
        self.accounts: list[str] = []
        self.most_jobs: dict[str, int] = {}
        self.longest: dict[str, int] = {}
        self.problem = ""


def _association(profile: Profile) -> _Bounds:
    """The limits of the user's associations and of the QOS; nothing where accounting keeps none."""
    found = _Bounds()
    user = os.environ.get("USER") or str(os.getuid())
    try:
        rows = _table(["assoc", "where", f"user={user}"], "Account,Partition,MaxSubmitJobs,MaxWall,QOS,DefaultQOS")
        every = _table(["qos"], "Name,MaxSubmitJobsPerUser,MaxWall")
    except ClusterError:
        return found  # said with the accounting
    found.accounts = sorted({row[0] for row in rows if row[0]})
    if profile.account and rows and profile.account not in found.accounts:
        found.problem = f"You have no association with account {profile.account}."
    own = [row for row in rows if profile.account in (None, row[0]) and row[1] in ("", profile.partition or "")]
    for row in own:
        _add(found, "your association's MaxSubmitJobs", row[2], "your association", row[3])
    chosen = {profile.qos} if profile.qos else {row[5] for row in own if row[5]}
    allowed = {name for row in own for name in row[4].split(",") if name}
    if profile.qos and own and profile.qos not in allowed:
        found.problem = f"Your association does not have the QOS {profile.qos}; it has {', '.join(sorted(allowed))}."
    for name, jobs, longest in every:
        if name in chosen:
            _add(found, f"MaxSubmitJobsPerUser of QOS {name}", jobs, f"QOS {name}", longest)
    return found


def _add(found: _Bounds, jobs_name: str, jobs: str, time_name: str, longest: str) -> None:
    if jobs.isdigit():
        found.most_jobs[jobs_name] = int(jobs)
    limit = time_limit(longest)
    if limit is not None:
        found.longest[time_name] = limit


def _table(what: Sequence[str], fields: str) -> list[list[str]]:
    text = ask(["sacctmgr", "-n", "-P", "show", *what, f"format={fields}"], ASK_S)
    width = fields.count(",") + 1
    return [row for line in text.splitlines() if len(row := line.split("|")) == width]


def tried(question: Question) -> Iterator[Finding]:
    """What `sbatch --test-only` says of a job of each group: the cluster's own word, with nothing submitted."""
    if not question.profile or not installed():
        return
    from slurm.backends.slurm.submit import sbatch_script

    profile = load_profile(question.profile, question.overrides)
    for group, own in groups_of(profile).items():
        script = sbatch_script(own, Path(question.runs) / "grid" / "jobs", f"cscdarts-{group}", 1, 1, None)
        options = {match.group(1) for match in re.finditer(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)}
        done = subprocess.run(
            ["sbatch", "--test-only"], input=script, capture_output=True, text=True, timeout=ASK_S, check=False,
            errors="replace", env=submission_variables(os.environ, options),
        )  # fmt: skip
        said = [line.split(":", 1)[-1].strip() for line in done.stderr.splitlines() if line.strip()]
        if done.returncode != 0:
            told = said[0].removeprefix("error: ") if said else f"exit code {done.returncode}"
            yield bad(
                "profile", f"{group}: sbatch would refuse it: {told}.", "Correct the profile, or --slurm KEY=VALUE."
            )
        elif said:
            start = re.sub(r"^Job \d+ to start", "a job would start", said[0])
            yield good("profile", f"{group}: {start}.")


CHECKS = {"the profile": read, "nodes that fit": partition, "numbers of jobs": numbers, "a trial of sbatch": tried}
