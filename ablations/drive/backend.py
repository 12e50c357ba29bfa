"""Where a grid's runs go: the interface that the loop knows, and the table of the backends that have it.

A further scheduler is a module or folder under `slurm/backends/`, an adapter beside this module that inherits
`Cluster`, and a line in `BACKENDS`; `docs/extending.md` shows one.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ablations.drive.driver import Driver
from ablations.grid.estimate import ONE_NODE, Nodes
from ablations.grid.forecast import NO_GPUS, Offers
from ablations.run.state import IN_HAND, RunState
from cscdarts.errors import UserError
from cscdarts.records.code import Code
from slurm.errors import ClusterError
from slurm.jobs import SubmittedJob

LOCAL = "local"
#: Name in `--on NAME[:PROFILE]` -> the class that has the interface. All but `local` are clusters and take a profile.
BACKENDS = {
    LOCAL: "ablations.drive.local:LocalBackend",
    "slurm": "ablations.drive.slurm:SlurmBackend",
}


@dataclass(frozen=True)
class Options:
    """How `run` and `retry` go about it.

    Attributes:
        parallel: at most this many runs (here) or jobs (on a cluster) at once.
        wait: stay until all jobs have ended, and mirror meanwhile.
        allow_dirty: submit from a tree with changes, keeping the difference.
        snapshot: let jobs run from a copy of the code.
    """

    parallel: int | None = None
    wait: bool = True
    allow_dirty: bool = False
    snapshot: bool = False


class Observable(Protocol):
    """A grid whose progress can be followed.

    Attributes:
        every_s: seconds between two looks, unless a look takes long.
    """

    every_s: float

    def states(self) -> list[RunState]:
        """Every run's state, in the grid's order.

        Errors:
            ClusterError: the scheduler does not answer.
        """
        ...

    def wait_s(self, states: Sequence[RunState]) -> float:
        """How long to look on although nothing changes, seconds: inf while runs are in hand, 0 once no more can
        come."""
        ...


class Backend(Observable, Protocol):
    """A place where one grid's runs can be worked on.

    Attributes:
        driver: the grid's driver.
        options: how to go about it.
        outlives_driver: whether submitted runs go on when the driver ends.
        nodes_of_run: how many nodes a search and a retraining hold while they last; less than one where runs share one.
    """

    driver: Driver
    options: Options
    outlives_driver: bool
    nodes_of_run: Nodes

    def open(self) -> list[str]:
        """Make sure that runs can be submitted, and put in order what an earlier driver left; returns what to tell.

        The driver's lock must be held.

        Errors:
            ClusterError: they cannot.
        """
        ...

    def freeze(self, code: Code) -> None:
        """Keep the code that is about to be submitted as the options ask.

        Errors:
            ClusterError: its state is not allowed.
        """
        ...

    def submit(self, hashes: Sequence[str]) -> str:
        """Submit what the given runs still need; returns what was done, in a few words.

        Errors:
            ClusterError: the scheduler refuses.
        """
        ...

    def left_over(self, states: Sequence[RunState]) -> list[str]:
        """Submitted runs that came back untouched and are to be submitted again.

        Errors:
            UserError: nothing that was submitted has begun.
        """
        ...

    def scripts(self, states: Sequence[RunState]) -> list[str]:
        """The scripts that would be submitted for runs that nobody has in hand; needs no scheduler."""
        ...

    def gpus(self) -> Offers:
        """The GPUs that a search and a retraining get there."""
        ...

    def close(self) -> None:
        """End what must not outlive the driver: work saves its state and stops."""
        ...


class Cluster(Backend, Protocol):
    """A backend whose jobs outlive the driver, and so can be looked at and cancelled by other commands.

    A class that inherits it need only say how jobs are submitted, listed and cancelled, and whether there can be any;
    the other methods suit a scheduler that needs nothing more.

    Attributes:
        name: the scheduler's, for people.
    """

    name: str
    outlives_driver: bool = True
    nodes_of_run: Nodes = ONE_NODE
    every_s: float = 3.0

    def open(self) -> list[str]:
        """See `Backend`; nothing is to be made sure of or put in order."""
        return []

    def freeze(self, code: Code) -> None:
        """See `Backend`; jobs run the code as it is when they start."""
        return

    def states(self) -> list[RunState]:
        """See `Observable`; the scheduler is asked only for runs that are not done."""
        states = self.driver.states()
        jobs = self.jobs(open_runs(states))
        return self.driver.states(jobs) if jobs else states

    def wait_s(self, states: Sequence[RunState]) -> float:
        """See `Observable`; a job that has ended is believed at once."""
        return in_hand_s(states)

    def left_over(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`; what a job gave up is a person's to submit again."""
        return []

    def scripts(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`; jobs need none."""
        return []

    def gpus(self) -> Offers:
        """See `Backend`; none are told of."""
        return NO_GPUS

    def close(self) -> None:
        """See `Backend`; jobs go on."""
        return

    @staticmethod
    def profiles() -> dict[str, str]:
        """The profiles that come with the distribution, each with one line on it; it may have none."""
        return {}

    @staticmethod
    def profile_keys() -> list[str]:
        """The keys that `--slurm KEY=VALUE` may name."""
        return []

    def available(self) -> bool:
        """Whether its scheduler can be asked from this machine."""
        ...

    def used(self) -> bool:
        """Whether jobs of the grid were ever submitted to it."""
        ...

    def jobs(self, hashes: Iterable[str] | None = None) -> list[SubmittedJob]:
        """The jobs of some runs (all if None), in the order of submission.

        Errors:
            ClusterError: the scheduler does not answer.
        """
        ...

    def cancel(self, hashes: Iterable[str] | None = None) -> int:
        """Cancel the jobs of some runs (all if None); returns how many jobs.

        Errors:
            ClusterError: the scheduler does not answer.
        """
        ...


class Factory(Protocol):
    """Makes the backend of a grid, its profile read and found good."""

    def __call__(self, driver: Driver, options: Options) -> Backend:
        """The backend of the driver's grid."""
        ...


def backend_forms() -> list[str]:
    """What `--on` takes: `local`, and `NAME:PROFILE` for each cluster."""
    return [LOCAL, *(f"{name}:PROFILE" for name in BACKENDS if name != LOCAL)]


def profiles() -> dict[str, str]:
    """The profiles that come with the distribution as `--on` takes them, each with one line on it."""
    return {
        f"{name}:{profile}": text
        for name in BACKENDS
        if name != LOCAL
        for profile, text in _adapter(name).profiles().items()
    }


def profile_keys() -> list[str]:
    """The keys of the clusters' profiles."""
    return list(dict.fromkeys(key for name in BACKENDS if name != LOCAL for key in _adapter(name).profile_keys()))


def read_backend(text: str, overrides: Sequence[str] = ()) -> Factory:
    """Read `NAME[:PROFILE]`, with `key=value` overrides of the profile.

    Errors:
        UserError: no such backend; a profile or overrides where there can be none, or none where there must be one.
        ClusterError: a profile that cannot be used.
    """
    name, _, profile = text.partition(":")
    forms = backend_forms()
    if text == LOCAL and overrides:
        allowed = f"only with --on {' or '.join(forms[1:])}"
        raise UserError("--slurm", overrides[0], allowed, "Add --on or drop --slurm.")
    if name not in BACKENDS or bool(profile) == (name == LOCAL):
        raise UserError("--on", text, " or ".join(forms), "For example: --on slurm:cpu")
    factory: Factory = _adapter(name).configured(text, profile, overrides)
    return factory


def require_devices(text: str, names: Iterable[str]) -> None:
    """Refuse devices that runs would lack on the backend that `NAME[:PROFILE]` names.

    Errors:
        UserError: this machine is to run them and lacks one; the nodes of a cluster are not asked.
    """
    if text == LOCAL:
        _adapter(LOCAL).require_devices(names)


def clusters_of(driver: Driver) -> list[Cluster]:
    """Every cluster, as it stands to the driver's grid."""
    return [_adapter(name)(driver, Options()) for name in BACKENDS if name != LOCAL]


def queued(driver: Driver, hashes: set[str]) -> dict[str, str]:
    """Which of some runs a cluster has in its queue, or may have: hash -> the job, or why that cannot be seen."""
    found: dict[str, str] = {}
    for cluster in clusters_of(driver) if hashes else ():
        if not cluster.used():
            continue
        if not cluster.available():
            found |= dict.fromkeys(hashes, f"{cluster.name}, whose queue cannot be seen from this machine")
            continue
        try:
            found |= {one.key: f"job {one.job} of {cluster.name}" for one in cluster.jobs(hashes) if one.live}
        except ClusterError as error:
            found |= dict.fromkeys(hashes, f"the scheduler does not answer: {error}")
    return found


class Observer:
    """Looks at a grid whoever runs it: asks each cluster that has had jobs of it, where it can be asked.

    Attributes:
        caveat: what could not be seen at the last look; "" if all could.
    """

    every_s: float = 3.0

    def __init__(self, driver: Driver) -> None:
        self.driver, self.caveat = driver, ""

    def states(self) -> list[RunState]:
        """See `Observable`; a cluster that does not answer is told in `caveat`."""
        jobs: list[SubmittedJob] = []
        caveats = []
        states = self.driver.states()
        for cluster in clusters_of(self.driver):
            if not cluster.used():
                continue
            if not cluster.available():
                caveats.append(f"no {cluster.name} on this machine: what waits in its queue cannot be seen from here")
                continue
            try:
                jobs += cluster.jobs(open_runs(states))
            except ClusterError as error:
                caveats.append(f"the scheduler does not answer: {error}")
        self.caveat = "; ".join(caveats)
        return self.driver.states(jobs) if jobs else states

    def wait_s(self, states: Sequence[RunState]) -> float:
        """See `Observable`."""
        return in_hand_s(states)


def open_runs(states: Sequence[RunState]) -> set[str]:
    """The runs that are not done: a scheduler is asked for no others."""
    return {state.hash for state in states if state.status != "done"}


def in_hand_s(states: Sequence[RunState]) -> float:
    """Infinity while a run is in anyone's hand, otherwise 0."""
    return float("inf") if any(state.status in IN_HAND for state in states) else 0.0


def _adapter(name: str) -> Any:
    module, _, attribute = BACKENDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
