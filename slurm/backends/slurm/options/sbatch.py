"""The options of `sbatch`, by long name, and the environment variables that stand for them.

To sbatch a variable such as SBATCH_PARTITION counts more than a line of the script, and all of a profile is lines of
the script. So a variable is read as a default where the profile has a field for it, kept where the profile is silent,
and hidden where the script says it: what a dry run shows is what is submitted.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from slurm.backends.slurm.options.values import FALSE, TRUE

#: Options that take no value, or may go without one.
FLAGS = frozenset(
    {"contiguous", "exclusive", "get-user-env", "ignore-pbs", "nice", "no-kill", "no-requeue", "overcommit",
     "oversubscribe", "propagate", "reboot", "requeue", "spread-job", "use-min-nodes", "verbose"}
)  # fmt: skip
#: Of these the ones that take a value too.
VALUED = frozenset({"exclusive", "get-user-env", "nice", "no-kill", "propagate"})
#: What sbatch has for a flag that is denied; another flag is then left out.
DENIED = {"requeue": "no-requeue"}
#: Option -> the profile's own key for it.
OWN_KEYS = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gres": "gres",
    "exclude": "exclude", "reservation": "reservation", "time": "time_min", "nodes": "nodes",
    "ntasks-per-node": "tasks_per_node", "tasks-per-node": "tasks_per_node", "cpus-per-task": "cpus_per_task",
    "gpus-per-node": "gpus_per_node", "mem": "mem_gb", "mem-per-cpu": "mem_per_cpu_gb", "mem-per-gpu": "mem_per_gpu_gb",
}  # fmt: skip
#: Options that the job layer sets by itself, or that would take the job out of its sight.
MANAGED = frozenset(
    {"array", "batch", "clusters", "dependency", "error", "help", "hold", "input", "job-name", "kill-on-invalid-dep",
     "open-mode", "output", "parsable", "quiet", "signal", "test-only", "usage", "version", "wait", "wrap"}
)  # fmt: skip
#: Variable -> the profile's key that it is the default of.
DEFAULTS = {
    "SBATCH_ACCOUNT": "account", "SBATCH_CONSTRAINT": "constraint", "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos", "SBATCH_RESERVATION": "reservation", "SBATCH_TIMELIMIT": "time_min",
}  # fmt: skip
#: Variables whose name is not their option's.
_OPTION_OF = {
    "SBATCH_ARRAY_INX": "array", "SBATCH_DEBUG": "verbose", "SBATCH_MEM_PER_NODE": "mem", "SBATCH_TIMELIMIT": "time",
    "SBATCH_REQ_SWITCH": "switches", "SBATCH_WAIT4SWITCH": "switches",
}  # fmt: skip
#: Options of which sbatch takes one only, or which say the same thing in two ways.
_FAMILIES = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"gpus", "gpus-per-node", "gpus-per-task", "gres"}),
    frozenset({"requeue", "no-requeue"}),
)
#: Of a job's own variables those that tell where its cluster is, and so hold for a job submitted from inside it too.
_LOCATES = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_SOCKET", "SLURM_TIME_FORMAT"})
_IN_A_JOB = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_STEP_ID")
_OF_A_JOB = ("SLURM_", "SLURMD_", "SLURM2_", "SRUN_", "SBATCH_MEM_BIND", "SBATCH_CPU_BIND", "PMI_", "PMIX_")
_OF_A_PROCESS = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
#: Variables that narrow or reshape what the commands that tell of jobs answer.
FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")


def extra_options(given: Mapping[Any, Any]) -> dict[str, str | int | bool]:
    """Further options as the script will have them: by long name, flags as truth values.

    Errors:
        ValueError: a whole sentence that names the option, what is allowed and the way out.
    """
    found: dict[str, str | int | bool] = {}
    for key, value in given.items():
        name = str(key).strip().replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]+", name):
            raise ValueError(f"extra.{key} is no long name of an sbatch option, such as nice or mail-type. Correct it.")
        if name in found:
            raise ValueError(f"extra names {name} twice, as {key} and otherwise. Keep one of them.")
        if name in OWN_KEYS:
            raise ValueError(f"extra.{key} is the profile's own {OWN_KEYS[name]}. Write {OWN_KEYS[name]} instead.")
        if name in MANAGED:
            raise ValueError(f"extra.{key} is set by the harness for each job, or hides the job from it. Remove it.")
        found[name] = _option(str(key), name, value)
    if "no-requeue" in found:
        if "requeue" in found:
            raise ValueError("extra names both requeue and no-requeue. Keep one of them.")
        found["requeue"] = found.pop("no-requeue") is False
    return found


def _option(key: str, name: str, value: Any) -> str | int | bool:
    if value is None or value == "" or isinstance(value, bool):
        return True if value is None or value == "" else bool(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"extra.{key} holds a {type(value).__name__}, not one value. Put it in quotes, or correct it.")
    word = str(value).strip()
    if any(character in word for character in "\n\r\0\x85\u2028\u2029"):
        raise ValueError(f"extra.{key} holds several lines; an option of sbatch is one line. Correct it.")
    truths = (TRUE, FALSE) if name in FLAGS else (TRUE & {"true"}, FALSE & {"false"})
    if word.lower() in truths[0]:
        return True
    if word.lower() in truths[1]:
        return False
    if name in FLAGS - VALUED:
        raise ValueError(f"extra.{key}: {word!r} is not valid; allowed: true, false. sbatch's --{name} takes no value.")
    return int(word) if re.fullmatch(r"0|[1-9][0-9]{0,8}", word) else word


def written(options: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    """Options as lines of a script: a flag that is denied becomes its opposite, or nothing."""
    found: dict[str, str | int | bool] = {}
    for name, value in options.items():
        if value is not False:
            found[name] = value
        elif name in DENIED:
            found[DENIED[name]] = True
    return found


def defaults(variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The user's own defaults: key of the profile -> (variable, value)."""
    return {key: (name, value) for name, key in DEFAULTS.items() if (value := variables.get(name, "").strip())}


def submission_variables(variables: Mapping[str, str], options: Iterable[str]) -> dict[str, str]:
    """The environment for `sbatch`, and with it that of the job.

    What locates the cluster stays. Inside a job, what belongs to that job goes, as it would leak into the new one. The
    user's defaults stay where the script is silent.

    Args:
        variables: of this process.
        options: long names of what the script says.
    """
    said = {name.replace("_", "-") for name in options}
    for family in _FAMILIES:
        said |= family if said & family else set()
    inside = any(name in variables for name in _IN_A_JOB)
    kept: dict[str, str] = {}
    for name, value in variables.items():
        option = _OPTION_OF.get(name, name.removeprefix("SBATCH_").lower().replace("_", "-"))
        hidden = name.startswith("SBATCH_") and (
            name in DEFAULTS or option in said or (option in MANAGED and option != "clusters")
        )
        own = inside and name.startswith(_OF_A_JOB) and name not in _LOCATES
        if not (hidden or own or name.startswith("SUBMITIT_") or name in _OF_A_PROCESS):
            kept[name] = value
    return kept


def telling_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment for the commands that tell of jobs: without what would hide some of them."""
    return {name: value for name, value in variables.items() if not name.startswith(FILTERS)}
