"""The mirror into MLflow that a driver keeps while it waits: now and then, and never in the way of a run."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ablations.drive.driver import Driver
from ablations.mirror.sync import GridMirror
from ablations.run.state import RunState
from reports.read.tracking import require_environment, shown

#: The mirror is given at most this share of the driver's time.
MIRROR_SHARE = 0.1
MIRROR_EVERY_S = 5.0


class PeriodicMirror:
    """Mirrors when it is time; a tracker that fails never stops a run.

    Args:
        mirror: the grid's mirror.
        say: where a failure is told.
    """

    def __init__(self, mirror: GridMirror, say: Callable[[str], None]) -> None:
        self.mirror, self.say = mirror, say
        self._ready, self._next, self._failed = False, 0.0, False

    def open(self) -> None:
        """Open the mirror now, for a command that is about mirroring.

        Errors:
            UserError: another mirror is at work, or the store cannot be reached.
        """
        if not self._ready:
            self.mirror.open()
            self._ready = True

    def __call__(self, states: Sequence[RunState], last: bool = False) -> None:
        """Mirror if it is time, or if this is the last chance."""
        began = time.monotonic()
        if not last and began < self._next:
            return
        try:
            self.open()
            self.mirror.sync(states)
            if last:
                for key, why in self.mirror.damaged.items():
                    self.say(f"mirror: run {key[:8]} is left out: {why}")
                for place, number in Counter(self.mirror.elsewhere.values()).items():
                    self.say(
                        f"mirror: the store has {number} of these runs from {place}, and one row for each: that one "
                        "stays. Name another store (MLFLOW_TRACKING_URI) for the runs of this folder."
                    )
        except Exception as error:
            self._ready = False  # what is remembered of the store may be what was wrong
            if not self._failed or last:
                self._failed = True
                why = shown(" ".join(str(error).split()))
                self.say(
                    f"mirror: {why} The runs go on; `cscdarts ablate watch {self.mirror.grid.name}` mirrors later."
                )
        spent = time.monotonic() - began
        self._next = time.monotonic() + max(MIRROR_EVERY_S, spent / MIRROR_SHARE)

    def close(self) -> None:
        """Let another mirror work."""
        self.mirror.close()  # nothing where its lock is not ours


@contextlib.contextmanager
def mirroring(driver: Driver, say: Callable[[str], None]) -> Iterator[PeriodicMirror]:
    """A mirror for the length of a block.

    Errors:
        UserError: the environment asks MLflow for what a grid cannot do.
    """
    require_environment(driver.grid.name)
    mirror = PeriodicMirror(GridMirror(driver.grid, driver.folder), say)
    try:
        yield mirror
    finally:
        mirror.close()
