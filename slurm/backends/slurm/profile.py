"""A cluster profile: typed YAML, overridable by `--slurm key=value`, checked before anything is submitted."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from slurm.backends.slurm.options.reading import Place, parse_value, read_settings
from slurm.backends.slurm.options.resources import MEMORY, Resources, Strict, require_one_memory
from slurm.backends.slurm.options.sbatch import defaults, extra_options, written
from slurm.backends.slurm.options.several import require_possible, runs_at_once
from slurm.backends.slurm.options.values import Count, FractionalMinutes, Gib, Minutes, OptionalText, Text, megabytes
from slurm.backends.slurm.options.wording import Sentence, said, worded
from slurm.backends.slurm.shell import VARIABLE, check_setup, python_path, script_lines, start_python
from slurm.errors import ClusterError
from slurm.job import python_words, worker_variables

PROFILES = Path(__file__).parents[2] / "profiles"
GROUPS = ("search", "retrain")
#: Keys whose values may be lists or mappings.
_STRUCTURED = ("setup", "environment", "extra", "groups")
#: Environment variables of every job, unless the profile's `environment` has its own.
_OWN_VARIABLES = {
    "PYTHONUNBUFFERED": "1",
    # Else `python -m` would import a `slurm.py` or `reports.py` of the user's from the folder that the job starts in.
    "PYTHONSAFEPATH": "1",
}


class Profile(Strict):
    """Where and how jobs run.

    Attributes:
        description: one line for people.
        partition, account, qos, constraint, gres, exclude, reservation: passed to sbatch as they are.
        time_min: time limit of one job in minutes, or in any form of `sbatch --time`; a longer run checkpoints and
            requeues itself, as often as needed.
        signal_s: seconds before the limit at which the job is told to checkpoint.
        nodes, tasks_per_node, cpus_per_task, gpus_per_node: see sbatch.
        mem_gb, mem_per_cpu_gb, mem_per_gpu_gb: memory per node, per core or per GPU, one of them; GiB, or with a unit
            as sbatch has it (500M, 4G, 1.5T). `mem_gb: 0` is all of a node.
        parallel: at most this many jobs of an array at once; `--parallel` replaces it.
        runs_per_job: how many runs share one job, one after the other; more than one pays only when a run takes less
            than a minute or so, or where a job has several runs at once.
        runs_per_node: a job takes a whole node (`--exclusive`, unless `extra` says otherwise) and works on this many
            runs at once, each a process with a GPU of its own; a run that ends makes room for the next of the job's
            `runs_per_job`. `cpus_per_task` is then each run's, memory the whole job's.
        runs_per_gpu: how many processes, a run each, share one GPU; with `runs_per_node` on each of them.
        gpu_mem_gb: memory of one GPU, GiB; plans say by it which runs fit. It is not passed on.
        graph: `chain` submits one array for search, derivation and check and one for retraining, each retraining
            starting when its own search is done; `single` runs all stages of a run in one job.
        groups: resources that differ for `search` or `retrain`.
        stall_min: minutes without a step after which a run counts as hung.
        setup: shell lines before the job's command (module load, conda activate); one that fails ends the job.
        container: words before `python`, such as `apptainer exec --nv image.sif`. It needs nothing of SLURM's inside.
        python: the interpreter on the nodes, in a container the container's own; None takes the submitting one.
        environment: variables for the job.
        extra: further sbatch options, by long name; `true` and `false` set and deny flags (`requeue: false`).
    """

    description: str = ""
    partition: OptionalText = None
    account: OptionalText = None
    qos: OptionalText = None
    constraint: OptionalText = None
    gres: OptionalText = None
    exclude: OptionalText = None
    reservation: OptionalText = None
    time_min: Minutes = Field(default=240, ge=1)
    signal_s: Count = Field(default=120, ge=10)
    nodes: Count = Field(default=1, ge=1)
    tasks_per_node: Count = Field(default=1, ge=1)
    cpus_per_task: Count = Field(default=1, ge=1)
    gpus_per_node: Count = Field(default=0, ge=0)
    mem_gb: Gib | None = Field(default=None, ge=0)
    mem_per_cpu_gb: Gib | None = Field(default=None, gt=0)
    mem_per_gpu_gb: Gib | None = Field(default=None, gt=0)
    parallel: Count | None = Field(default=None, ge=1)
    runs_per_job: Count = Field(default=1, ge=1)
    runs_per_node: Count | None = Field(default=None, ge=1)
    runs_per_gpu: Count = Field(default=1, ge=1)
    gpu_mem_gb: Gib | None = Field(default=None, gt=0)
    graph: Literal["chain", "single"] = "chain"
    groups: dict[str, Resources] = Field(default_factory=dict)
    stall_min: FractionalMinutes = Field(default=30.0, gt=0)
    setup: tuple[str, ...] = ()
    container: OptionalText = None
    python: OptionalText = None
    environment: dict[Text, str] = Field(default_factory=dict)
    extra: dict[str, str | int | bool] = Field(default_factory=dict)

    @field_validator("setup", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(value.splitlines())
        if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
            raise ValueError("lines of shell; put a line that holds a colon or brackets in quotes")
        return tuple(part for line in value for part in line.splitlines() or [""])

    @field_validator("setup")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            said(check_setup, value)
        return value

    @field_validator("environment", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("names and values, one variable per line")
        texts = {}
        for name, one in value.items():
            if not isinstance(name, str) or VARIABLE.fullmatch(name) is None:
                raise Sentence(f"environment.{name} is no variable's name: letters, digits, underscores. Correct it.")
            if isinstance(one, Mapping | list | tuple) or "\0" in str(one):
                raise Sentence(f"environment.{name} is no text. Put the value in quotes, or correct it.")
            texts[name] = "" if one is None else str(one)
        return texts

    @field_validator("extra", mode="before")
    @classmethod
    def _options(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("names and values of sbatch options")
        return said(extra_options, value)

    @field_validator("python")
    @classmethod
    def _at_home(cls, value: str | None) -> str | None:
        # The word is quoted in the script, so that no shell does it there.
        return os.path.expanduser(value) if value else value  # noqa: PTH111

    @model_validator(mode="after")
    def _check(self) -> Self:
        require_one_memory(self)
        unknown = set(self.groups) - set(GROUPS)
        if unknown:
            raise ValueError(f"groups={', '.join(sorted(unknown))}: groups are search and retrain")
        for name in ("", *self.groups):
            require_possible(self.resources(name), f"groups.{name}." if name else "")
            minutes = self.resources(name).time_min
            if self.signal_s >= 60 * minutes:
                where = f"groups.{name}.time_min" if name else "time_min"
                raise ValueError(f"signal_s={self.signal_s} leaves no time of {where}={minutes}; lower it")
        return self

    def resources(self, group: str) -> "Profile":
        """The profile with a group's own resources put in."""
        own = self.groups.get(group)
        values = {} if own is None else {k: v for k, v in own.model_dump().items() if v is not None}
        if not MEMORY.keys().isdisjoint(values):
            values = {**dict.fromkeys(MEMORY), **values}
        return self.model_copy(update=values)

    @property
    def runs_at_once(self) -> int:
        """How many runs a job works on at once, each in a process of its own."""
        return runs_at_once(self)

    @property
    def runs_of_job(self) -> int:
        """How many runs a job is given: no fewer than those that any of its groups has at once."""
        return max(self.runs_per_job, *(self.resources(group).runs_at_once for group in ("", *GROUPS)))

    @property
    def processes(self) -> int:
        """How many processes a run has."""
        return self.nodes * self.tasks_per_node

    @property
    def nodes_of_run(self) -> float:
        """How many nodes a run holds while it lasts; less than one where several share one."""
        return self.nodes / self.runs_at_once

    def sbatch(self, name: str, parallel: int, dependency: str | None, hold: bool) -> dict[str, Any]:
        """Parameters of submitit's SLURM executor.

        Args:
            name: the job's name, by which a lost submission is found again.
            parallel: throttle of the array.
            dependency: sbatch's `--dependency`.
            hold: submit without starting.
        """
        whole = {} if self.runs_per_node is None else {"exclusive": True}
        extra: dict[str, Any] = written({"requeue": True, **whole, **self.extra})
        if hold:
            extra["hold"] = True
        if dependency is not None:
            # Else a retraining whose search has failed would wait forever.
            extra["kill-on-invalid-dep"] = "yes"
        if self.reservation is not None:
            extra["reservation"] = self.reservation
        values: dict[str, Any] = {
            "job_name": name,
            "time": self.time_min,
            "signal_delay_s": self.signal_s,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus_per_task * self.runs_at_once,
            "gpus_per_node": self.gpus_per_node or None,
            "array_parallelism": parallel,
            "dependency": dependency,
            "setup": self._setup(),
            "additional_parameters": extra,
            "wckey": None,
        }
        for key, option in MEMORY.items():
            amount = getattr(self, key)
            values[option] = None if amount is None else megabytes(amount)
        for key in ("partition", "account", "qos", "constraint", "gres", "exclude"):
            values[key] = getattr(self, key)
        # Without a word submitit asks for a wckey of its own, which a cluster that keeps such keys would refuse.
        return {key: value for key, value in values.items() if value is not None or key == "wckey"}

    def command_python(self, python: str) -> str:
        """How a job starts python, the container's words included; `python` is the submitting interpreter."""
        return " ".join([start_python(self.python or python, self.container), *python_words()])

    def _setup(self) -> list[str]:
        exports = {"OMP_NUM_THREADS": str(self.cpus_per_task), **_OWN_VARIABLES, **self.environment}
        lines = script_lines(self.setup, exports)
        code = "" if "PYTHONPATH" in self.environment else worker_variables({}).get("PYTHONPATH", "")
        return [*lines, *python_path(code)]


def profile_names() -> list[str]:
    """The profiles that come with the distribution."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(source: str, overrides: Iterable[str] = (), variables: Mapping[str, str] | None = None) -> Profile:
    """Read a profile by name or by the path of a YAML file, with `key=value` overrides.

    Args:
        variables: where the user's own defaults stand (SBATCH_PARTITION and the like), which count where neither the
            file nor an override says anything; the process's environment if None.

    Errors:
        ClusterError: no such profile, an unknown or doubled key, a value out of range.
    """
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - a home that is not there is no failure
    if path.suffix.lower() not in (".yaml", ".yml") and os.sep not in source:
        if source not in profile_names():
            raise ClusterError("--on", f"slurm:{source}", _offered(), "Choose one.")
        path = PROFILES / f"{source}.yaml"
    try:
        settings = read_settings(path)
    except (FileNotFoundError, ValueError):  # a name with NUL is no file's
        missing = f"The profile {path} does not exist. Give the path of an existing YAML file, or {_offered()}."
        raise ClusterError("--on", f"slurm:{source}", "an existing YAML file", "Check the path.", missing) from None
    data = settings.values
    origins: dict[Place, str] = {place: f"{path.name}, line {line}: " for place, line in settings.lines.items()}
    for text in overrides:
        place = _override(data, text)
        origins = {known: origin for known, origin in origins.items() if known[: len(place)] != place}
        for end in range(1, len(place)):
            origins.setdefault(place[:end], "--slurm ")
        origins[place] = "--slurm "
    data = _given(data)
    for key, (name, value) in defaults(os.environ if variables is None else variables).items():
        if key not in data:
            data[key], origins[(key,)] = value, f"{name}, as "
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise worded(error, path, origins, _keys) from None
    except UnicodeEncodeError:
        field = _half_character(data) or "a value"
        raise ClusterError(
            f"{path.name}: {field}", "a text with half a character in it", "whole characters", "Correct the escapes."
        ) from None


def _half_character(value: Any, where: str = "") -> str | None:
    """The dotted key of the first text that no encoding can write; of a mapping with such a key the mapping's."""
    if isinstance(value, str):
        return where if any("\ud800" <= letter <= "\udfff" for letter in value) else None
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := _half_character(one, where))), None)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found = _half_character(key, where) or _half_character(inner, f"{where}.{key}".strip("."))
            if found:
                return found
    return None


def _keys(of_group: bool) -> list[str]:
    return list((Resources if of_group else Profile).model_fields)


def _offered() -> str:
    return ", ".join(f"slurm:{name}" for name in [*profile_names(), "PATH.yaml"])


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is said: a key without a value says nothing, in a group too."""
    said = {key: value for key, value in data.items() if value is not None and value != ""}
    if isinstance(groups := said.get("groups"), dict):
        said["groups"] = {name: _given(own if own else {}) if isinstance(own, dict | None) else own
                          for name, own in groups.items()}  # fmt: skip
    return said


def _override(data: dict[str, Any], text: str) -> Place:
    """Apply `key=value`, `groups.retrain.time_min=60` or `environment.NAME=value`; returns the key's place."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ClusterError("--slurm", text, "key=value", "For example: --slurm partition=gpu")
    *parents, leaf = (part.strip() for part in key.split("."))
    section = data
    for parent in parents:
        if section.get(parent) in (None, ""):
            section[parent] = {}
        inner = section[parent]
        if not isinstance(inner, dict):
            raise ClusterError("--slurm", key, f"a key of {', '.join(Profile.model_fields)}", "Correct it.")
        section = inner
    if leaf in MEMORY:
        # One of them counts, and that is the one said last.
        for other in MEMORY:
            section.pop(other, None)
    section[leaf] = _read_override(key, leaf if not parents else "", value)
    return (*parents, leaf)


def _read_override(key: str, leaf: str, value: str) -> Any:
    if value[:1] in ("[", "{") and leaf not in _STRUCTURED:
        return value
    try:
        return parse_value(value)
    except yaml.YAMLError as error:
        if value[:1] in ("[", "{"):
            why = " ".join(str(getattr(error, "problem", None) or error).split())
            raise ClusterError(
                f"--slurm {key}", value, "YAML where brackets begin it", "Correct it.",
                f"--slurm {key}: {value!r} is not valid YAML: {why}. Correct it.",
            ) from None  # fmt: skip
        return value
