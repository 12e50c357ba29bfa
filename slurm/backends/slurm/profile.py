"""A cluster profile: typed YAML, overridable by `--slurm key=value`, checked before anything is submitted."""

import difflib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from slurm.errors import ClusterError

PROFILES = Path(__file__).parents[2] / "profiles"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Strict):
    """What a job asks for; a group's own values replace the profile's where they are given."""

    time_min: int | None = Field(default=None, ge=1, description="time limit, minutes")
    nodes: int | None = Field(default=None, ge=1)
    tasks_per_node: int | None = Field(default=None, ge=1, description="processes per node, one per GPU for DDP")
    cpus_per_task: int | None = Field(default=None, ge=1)
    gpus_per_node: int | None = Field(default=None, ge=0)
    mem_gb: float | None = Field(
        default=None, gt=0, description="memory per node, GiB; None takes the cluster's default"
    )
    partition: str | None = None
    constraint: str | None = None
    gres: str | None = None


class Profile(_Strict):
    """Where and how jobs run.

    Attributes:
        description: one line for people.
        partition, account, qos, constraint, gres, exclude, reservation: passed to sbatch as they are.
        time_min: time limit of one job in minutes; a longer run checkpoints and requeues itself, as often as needed.
        signal_s: seconds before the limit at which the job is told to checkpoint.
        nodes, tasks_per_node, cpus_per_task, gpus_per_node, mem_gb: see sbatch.
        parallel: at most this many jobs of an array at once; `--parallel` replaces it.
        runs_per_job: how many runs share one job; more than one pays only when a run takes less than a minute or so.
        graph: `chain` submits one array for search, derivation and check and one for retraining, each retraining
            starting when its own search is done; `single` runs all stages of a run in one job.
        groups: resources that differ for `search` or `retrain`.
        stall_min: minutes without a step after which a run counts as hung.
        setup: shell lines before the job's command (module load, conda activate).
        container: words before `python`, such as `apptainer exec --nv image.sif`.
        python: the interpreter on the nodes; None takes the submitting one.
        environment: variables for the job.
        extra: further sbatch options, by long name.
    """

    description: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    time_min: int = Field(default=240, ge=1)
    signal_s: int = Field(default=120, ge=10)
    nodes: int = Field(default=1, ge=1)
    tasks_per_node: int = Field(default=1, ge=1)
    cpus_per_task: int = Field(default=1, ge=1)
    gpus_per_node: int = Field(default=0, ge=0)
    mem_gb: float | None = Field(default=None, gt=0)
    parallel: int | None = Field(default=None, ge=1)
    runs_per_job: int = Field(default=1, ge=1)
    graph: Literal["chain", "single"] = "chain"
    groups: dict[str, Resources] = Field(default_factory=dict)
    stall_min: float = Field(default=30.0, gt=0)
    setup: tuple[str, ...] = ()
    container: str | None = None
    python: str | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    extra: dict[str, str | int | bool] = Field(default_factory=dict)

    @field_validator("setup", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        return tuple(value.splitlines()) if isinstance(value, str) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.signal_s >= 60 * self.time_min:
            raise ValueError(f"signal_s={self.signal_s} leaves no time of time_min={self.time_min}; lower it")
        unknown = set(self.groups) - {"search", "retrain"}
        if unknown:
            raise ValueError(f"groups={', '.join(sorted(unknown))}: groups are search and retrain")
        return self

    def resources(self, group: str) -> "Profile":
        """The profile with a group's own resources put in."""
        own = self.groups.get(group)
        values = {} if own is None else {k: v for k, v in own.model_dump().items() if v is not None}
        return self.model_copy(update=values)

    def sbatch(self, name: str, parallel: int, dependency: str | None, hold: bool) -> dict[str, Any]:
        """Parameters of submitit's SLURM executor.

        Args:
            name: the job's name, by which a lost submission is found again.
            parallel: throttle of the array.
            dependency: sbatch's `--dependency`.
            hold: submit without starting.
        """
        extra: dict[str, Any] = {"requeue": True, **self.extra}
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
            "cpus_per_task": self.cpus_per_task,
            "gpus_per_node": self.gpus_per_node or None,
            "mem": None if self.mem_gb is None else f"{round(self.mem_gb * 1024)}MB",
            "array_parallelism": parallel,
            "dependency": dependency,
            "setup": self._setup(),
            "additional_parameters": extra,
            "wckey": None,
        }
        for key in ("partition", "account", "qos", "constraint", "gres", "exclude"):
            values[key] = getattr(self, key)
        return {key: value for key, value in values.items() if value is not None}

    def command_python(self, python: str) -> str:
        """How a job starts python, the container's words included; `python` is the submitting interpreter.

        The signal before a limit kills a process that has no handler yet. A job preempted in its first second would
        then end as failed, so python begins with that signal ignored; the scheduler requeues what it preempts anyhow.
        """
        start = shlex.quote(self.python or python)
        start = f"{self.container} {start}" if self.container else start
        return f'sh -c \'trap "" USR2; exec "$@"\' sh {start}'

    def _setup(self) -> list[str]:
        exports = {"OMP_NUM_THREADS": str(self.cpus_per_task), "PYTHONUNBUFFERED": "1", **self.environment}
        return [*self.setup, *(f"export {key}={shlex.quote(value)}" for key, value in exports.items())]


def profile_names() -> list[str]:
    """The profiles that come with the distribution."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(source: str, overrides: Iterable[str] = ()) -> Profile:
    """Read a profile by name or by the path of a YAML file, with `key=value` overrides.

    Errors:
        ClusterError: no such profile, an unknown key, a value out of range.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        if source not in profile_names():
            raise ClusterError("--on", f"slurm:{source}", _offered(), "Choose one.")
        path = PROFILES / f"{source}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        missing = f"The profile {path} does not exist. Give the path of an existing YAML file, or {_offered()}."
        raise ClusterError("--on", f"slurm:{source}", "an existing YAML file", "Check the path.", missing) from None
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        broken = f"The profile {path} is not valid YAML: {why}. Correct the file."
        raise ClusterError(str(path), why, "valid YAML", "Correct the file.", broken) from None
    if not isinstance(data, dict):
        wrong = f"The profile {path} holds a {type(data).__name__}, not keys and values. See slurm/profiles/cpu.yaml."
        raise ClusterError(str(path), type(data).__name__, "keys and values", "See slurm/profiles/cpu.yaml.", wrong)
    for text in overrides:
        _override(data, text)
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise _sentence(error, path) from None


def _offered() -> str:
    return ", ".join(f"slurm:{name}" for name in [*profile_names(), "PATH.yaml"])


def _override(data: dict[str, Any], text: str) -> None:
    """Apply `key=value`, `groups.retrain.time_min=60` or `environment.NAME=value`."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ClusterError("--slurm", text, "key=value", "For example: --slurm partition=gpu")
    *parents, leaf = key.strip().split(".")
    section = data
    for parent in parents:
        inner = section.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ClusterError("--slurm", key, f"a key of {', '.join(Profile.model_fields)}", "Correct it.")
        section = inner
    section[leaf] = yaml.safe_load(value)


def _sentence(error: ValidationError, path: Path) -> ClusterError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "profile"
    if first["type"] == "extra_forbidden":
        inside = Resources if where.startswith("groups.") else Profile
        known = list(inside.model_fields)
        close = difflib.get_close_matches(where.rsplit(".", 1)[-1], known, n=1)
        fix = f"Did you mean {close[0]}?" if close else f"Remove it from {path.name} or the command."
        return ClusterError(f"{path.name}: {where}", first["input"], "the keys " + ", ".join(known), fix)
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    value = first["input"] if not isinstance(first["input"], dict) else "this combination"
    return ClusterError(f"{path.name}: {where}", value, message, "Correct it and run the command again.")
