"""The driver's loops: run a grid here or on a cluster, mirror it meanwhile, say how it ended."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from ablations.drive.cluster import Cluster, Place, frozen_environment, queue_of
from ablations.drive.driver import TAKEN_UP, Driver, counts, current_code
from ablations.drive.show import Progress, duration, following, tally
from ablations.mirror.sync import Mirror
from ablations.run.state import RunState
from slurm.backends.slurm.scheduler import SlurmScheduler
from slurm.errors import ClusterError

Choose = Callable[[Sequence[RunState]], list[str]]

#: The mirror is given at most this share of the driver's time.
MIRROR_SHARE = 0.1
MIRROR_EVERY_S = 5.0
#: Accounting and shared file systems lag behind a job's end: a run that looks lost is looked at again after so long.
SECOND_LOOK_S = 10.0
#: A run that keeps coming back untouched is left alone after so many tries of one driver.
MOST_TRIES = 3


@dataclass(frozen=True)
class Options:
    """How `run` and `retry` go about it.

    Attributes:
        parallel: at most so many runs (here) or jobs (on a cluster) at once.
        wait: stay until all jobs have ended, and mirror meanwhile.
        allow_dirty: submit from a tree with changes, keeping the difference.
        snapshot: let jobs run from a copy of the code.
    """

    parallel: int | None = None
    wait: bool = True
    allow_dirty: bool = False
    snapshot: bool = False


def untouched(states: Sequence[RunState]) -> list[str]:
    """Runs that nobody has in hand, that have not failed and are not done."""
    return [state.hash for state in states if state.status in TAKEN_UP]


def run_grid(driver: Driver, place: Place, options: Options, console: Console, choose: Choose = untouched) -> int:
    """Run a grid and mirror it; returns 0, or 1 where runs have failed.

    Args:
        choose: which runs to take up, by their states.

    Errors:
        UserError, ClusterError: another driver holds the grid, a folder cannot be written, a profile cannot be used.
    """
    with following(driver.grid, console) as progress:
        driver.take()
        try:
            with driver.lock.kept(), mirroring(driver, progress.say) as mirror:
                if place.profile is None:
                    return _here(driver, options, progress, mirror, choose)
                return _cluster(driver, place, options, progress, mirror, choose)
        finally:
            driver.lock.release()


class Mirroring:
    """Mirrors now and then while a driver waits; a tracker that fails never stops a run."""

    def __init__(self, mirror: Mirror, say: Callable[[str], None]) -> None:
        self.mirror, self.say = mirror, say
        self.ready, self._next, self._failed = False, 0.0, False

    def __call__(self, states: Sequence[RunState], last: bool = False) -> None:
        """Mirror if it is time, or if this is the last chance."""
        now = time.monotonic()
        if not last and now < self._next:
            return
        try:
            if not self.ready:
                self.mirror.open()
                self.ready = True
            self.mirror.sync(states)
        except Exception as error:
            if not self._failed or last:
                self._failed = True
                why = " ".join(str(error).split())
                self.say(
                    f"mirror: {why} The runs go on; `cscdarts ablate watch {self.mirror.grid.name}` mirrors later."
                )
        spent = time.monotonic() - now
        self._next = time.monotonic() + max(MIRROR_EVERY_S, spent / MIRROR_SHARE)

    def close(self) -> None:
        """Let another mirror work."""
        if self.ready:
            self.mirror.close()


@contextlib.contextmanager
def mirroring(driver: Driver, say: Callable[[str], None]) -> Iterator[Mirroring]:
    """A mirror for the length of a block."""
    mirror = Mirroring(Mirror(driver.grid, driver.folder), say)
    try:
        yield mirror
    finally:
        mirror.close()


def _here(driver: Driver, options: Options, progress: Progress, mirror: Mirroring, choose: Choose) -> int:
    driver.write_manifest(current_code())
    latest = driver.states()
    wanted = choose(latest)
    progress.say(f"{driver.grid.name} ({driver.grid.scale}): {tally(latest)}; {len(wanted)} to run here")

    def tick(states: list[RunState]) -> None:
        nonlocal latest
        latest = states
        progress(states)
        mirror(states)

    chosen = None if choose is untouched else set(wanted)
    tries: Counter[str] = Counter()
    try:
        while wanted:
            tries.update(wanted)
            driver.run_here(wanted, options.parallel, tick)
            # Workers of a driver that died let go of their runs a moment later: take those up too.
            latest = _settled(driver)
            wanted = [h for h in untouched(latest) if tries[h] < MOST_TRIES and (chosen is None or h in chosen)]
    finally:
        mirror(latest, last=True)
    return finish(driver, latest, progress)


def _settled(driver: Driver) -> list[RunState]:
    """The states once nobody has a run in hand, or after `SECOND_LOOK_S` seconds."""
    until = time.monotonic() + SECOND_LOOK_S
    states = driver.states()
    while any(state.status == "running" for state in states) and time.monotonic() < until:
        time.sleep(0.5)
        states = driver.states()
    return states


def _cluster(
    driver: Driver, place: Place, options: Options, progress: Progress, mirror: Mirroring, choose: Choose
) -> int:
    scheduler = SlurmScheduler()
    scheduler.check()
    queue = queue_of(driver.folder, driver.grid.name)
    queue.max_array = scheduler.limit("MaxArraySize", queue.max_array)
    cluster = Cluster(driver, queue)
    code = current_code()
    mended = queue.mend()
    if mended:
        progress.say(f"{mended} half-submitted arrays of an earlier driver were put in order")
    states = cluster.states()
    wanted = choose(states)
    if wanted:
        environment = frozen_environment(code, driver.folder, options.allow_dirty, options.snapshot)
        driver.write_manifest(code)
        arrays = cluster.submit(wanted, place, options.parallel, environment)
        progress.say(f"{driver.grid.name} ({driver.grid.scale}): {len(wanted)} runs submitted as {arrays} arrays")
    else:
        driver.write_manifest(code)
        progress.say(f"{driver.grid.name} ({driver.grid.scale}): {tally(states)}; nothing to submit")
    if not options.wait:
        return 0
    try:
        states = await_end(cluster, progress, mirror)
    except KeyboardInterrupt:
        progress.say(f"the jobs go on; `cscdarts ablate watch {driver.grid.name}` follows them, `cancel` ends them")
        raise
    finally:
        mirror(driver.states(), last=True)
    return finish(driver, states, progress)


def await_end(cluster: Cluster, progress: Progress, mirror: Mirroring, every_s: float = 3.0) -> list[RunState]:
    """Follow a grid on the cluster until no run is in anyone's hand."""
    settled_at: float | None = None
    away = False
    while True:
        began = time.monotonic()
        try:
            states = cluster.states()
            away = False
        except ClusterError as error:
            # Controllers are restarted; the jobs do not mind, and neither does their driver.
            if not away:
                progress.say(f"the scheduler does not answer, trying on: {' '.join(str(error).split())}")
            away = True
            time.sleep(10.0)
            continue
        progress(states)
        mirror(states)
        if any(state.status in ("pending", "running", "preempted") for state in states):
            settled_at = None
        elif all(state.status == "done" for state in states):
            return states
        elif settled_at is None:
            settled_at = time.monotonic()
        elif time.monotonic() - settled_at >= SECOND_LOOK_S:
            return states
        # A look costs two calls to the scheduler; it may take a tenth of the time at most.
        time.sleep(min(30.0, max(every_s, 10 * (time.monotonic() - began))))


def finish(driver: Driver, states: Sequence[RunState], progress: Progress) -> int:
    """Say how the grid ended; 1 where runs have failed or are missing."""
    number = counts(states)
    progress.say(f"{driver.grid.name}: {tally(states)}; {duration(time.monotonic() - progress.started)}")
    bad = [(p, s) for p, s in zip(driver.grid.points, states, strict=True) if s.status in ("failed", "lost")]
    for point, state in bad[:20]:
        kind = f" ({state.kind})" if state.status == "failed" else ""
        progress.say(f"  {state.hash[:8]} {'/'.join(point.methods)} {state.status}{kind}: {state.detail}")
    if number["failed"]:
        progress.say(f"`cscdarts ablate retry {driver.grid.name}` runs the failed ones again.")
    return 1 if number["failed"] or number["lost"] else 0
