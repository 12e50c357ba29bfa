"""The driver's one loop: submit a grid's runs to a backend, follow them, mirror them meanwhile, say how it ended."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console

from ablations.drive.backend import Backend, Observable
from ablations.drive.driver import Driver, counts, untouched
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.drive.mirroring import PeriodicMirror, mirroring
from ablations.drive.tell.show import Progress, following, tally
from ablations.drive.tell.words import duration
from ablations.run.state import IN_HAND, RunState
from cscdarts.records.code import read_code
from slurm.errors import ClusterError

Choose = Callable[[Sequence[RunState]], list[str]]

#: A look may take this share of the time between two looks, unless the pause would exceed `LONGEST_PAUSE_S`.
LOOK_SHARE = 0.1
LONGEST_PAUSE_S = 30.0
#: Pause before a scheduler that does not answer is asked again.
AWAY_S = 10.0
#: How many failed runs are named at the end.
NAMED = 20
_BAD = ("failed", "lost", "damaged")


def run_grid(backend: Backend, console: Console, choose: Choose = untouched) -> int:
    """Run a grid and mirror it; returns the command's exit code.

    Args:
        backend: where the runs go.
        choose: which runs to take up, by their states.

    Errors:
        UserError, ClusterError: another driver holds the grid, a folder cannot be written, a profile cannot be used.
    """
    driver = backend.driver
    with following(driver.grid, console) as progress:
        driver.take()
        try:
            with driver.lock.refreshing(), mirroring(driver, progress.say) as mirror:
                return exit_code(_drive(backend, progress, mirror, choose))
        finally:
            driver.lock.release()


def exit_code(states: Sequence[RunState]) -> int:
    """See `ablations.drive.exit_codes`: anything that is not done makes it `UNFINISHED`."""
    return UNFINISHED if any(state.status != "done" for state in states) else DONE


def _drive(backend: Backend, progress: Progress, mirror: PeriodicMirror, choose: Choose) -> Sequence[RunState]:
    """The states at the end; none where nobody waits for it."""
    driver = backend.driver
    for line in backend.open():
        progress.say(line)
    states = backend.states()
    wanted = choose(states)
    code = read_code()
    if wanted:
        backend.freeze(code)
    driver.write_manifest(code)
    followed = False
    try:
        progress.say(f"{driver.grid.name} ({driver.grid.scale}): {tally(states)}; {backend.submit(wanted)}")
        taken_up = set(wanted)
        _tell_others(states, progress)
        if backend.outlives_driver and not backend.options.wait:
            return ()
        followed = True
        states = follow(backend, progress, mirror)
        # A retry keeps to the runs that it was asked for.
        scope = {state.hash for state in states} if choose is untouched else set(wanted)
        while again := [key for key in _to_take_up(backend, states, taken_up) if key in scope]:
            taken_up |= set(again)
            backend.submit(again)
            states = follow(backend, progress, mirror)
    except KeyboardInterrupt:
        if backend.outlives_driver:
            name = driver.grid.name
            progress.say(f"the jobs go on; `cscdarts ablate watch {name}` follows them, `cancel` ends them")
        raise
    finally:
        backend.close()
        if followed:
            left = driver.states()
            if not backend.outlives_driver:
                progress(left)
            mirror(left, last=True)
    tell_end(driver, states, progress)
    return states


def _tell_others(states: Sequence[RunState], progress: Progress) -> None:
    """Say what is waited for: runs that processes or jobs of an earlier driver have in hand."""
    held = [state for state in states if state.status in IN_HAND]
    if held:
        whose = ", ".join(
            dict.fromkeys(one.host or (one.jobs[-1] if one.jobs else "elsewhere") for one in held[:NAMED])
        )
        progress.say(f"{len(held)} runs are in hand already ({whose}): they are waited for")


def _to_take_up(backend: Backend, states: Sequence[RunState], taken_up: set[str]) -> list[str]:
    """What is to be submitted now: what came back untouched, and what others had in hand and have let go of."""
    left = backend.left_over(states)
    let_go = [one.hash for one in states if one.status in ("new", "lost") and one.hash not in taken_up]
    return [*left, *(key for key in let_go if key not in left)]


def follow(grid: Observable, progress: Progress, mirror: Callable[[Sequence[RunState]], None]) -> list[RunState]:
    """Look on until no more can come of a grid's runs; returns their states then."""
    away = False
    busy_at = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            states = grid.states()
        except ClusterError as error:
            # Controllers are restarted; the jobs do not mind, and neither does their driver.
            if not away:
                progress.say(f"the scheduler does not answer, trying again: {' '.join(str(error).split())}")
            away = True
            time.sleep(AWAY_S)
            continue
        away = False
        cost = time.monotonic() - began
        progress(states)
        mirror(states)
        wait_s = grid.wait_s(states)
        if wait_s == float("inf"):
            busy_at = time.monotonic()
        elif time.monotonic() - busy_at >= wait_s:
            return states
        time.sleep(min(LONGEST_PAUSE_S, max(grid.every_s, cost / LOOK_SHARE)))


def tell_end(driver: Driver, states: Sequence[RunState], progress: Progress) -> None:
    """Say how a grid ended, the failed, the lost and the damaged runs by name."""
    name = driver.grid.name
    progress.say(f"{name}: {tally(states)}; {duration(time.monotonic() - progress.started)}")
    bad = [(p, s) for p, s in zip(driver.grid.points, states, strict=True) if s.status in _BAD]
    for point, state in bad[:NAMED]:
        kind = f" ({state.kind})" if state.status == "failed" else ""
        progress.say(f"  {state.hash[:8]} {'/'.join(point.methods)} {state.status}{kind}: {state.detail}")
    if counts(states)["failed"] or counts(states)["damaged"]:
        progress.say(f"`cscdarts ablate retry {name}` runs the failed ones again, and sets damaged files aside.")
    open_ = sum(state.status not in ("done", "failed", "damaged") for state in states)
    if open_:
        progress.say(f"{open_} runs are not done; `cscdarts ablate run {name}` takes them up.")
