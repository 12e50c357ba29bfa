"""What `ablate plan` and `reproduce --plan` tell of some grids together."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ablations.commands.grid.choice import require_grid_devices
from ablations.commands.grid.running import Where
from ablations.drive.backend import Factory, Observer, Options
from ablations.drive.driver import Driver, untouched
from ablations.drive.plan import Plan, absent_data, plan
from ablations.drive.tell.show import tally
from ablations.drive.tell.words import label
from ablations.grid.estimate import ONE_NODE, Measured, Nodes, measured, sentence
from ablations.grid.forecast import Kind, Offers, kinds, total_hours
from ablations.run.state import RunState


def tell_whole_plan(
    drivers: Sequence[Driver], runs: Path, where: Where, make: Factory, script: bool, forecast: bool | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print what `ablate plan` says of some grids: runs, counts, what they take, and the scripts.

    Args:
        runs: the folder of runs.
        make: what makes the backend of a grid.
        script: print the scripts that would be submitted.
        forecast: tell what a GPU gives to each kind of run; None where the runs get one.
        as_json: print only the counts, as one JSON object.
    """
    for driver in drivers:
        require_grid_devices(driver.grid, where.backend)
    options = Options(where.options.parallel)
    backend = make(drivers[0], options)
    states, told = tell_plan(drivers, runs, as_json, backend.nodes_of_run, forecasting(forecast, backend.gpus()))
    if as_json:
        return
    console = Console()
    for driver, found in zip(drivers, states, strict=True):
        wanted = set(untouched(found))
        for point in driver.grid.points:
            if point.hash in wanted:
                click.echo(f"{point.hash} {label(point)}")
        line = f"{driver.grid.name} ({driver.grid.scale}): {tally(found)}; would run {len(wanted)}"
        console.print(line, highlight=False, soft_wrap=True)
    console.print(told, highlight=False, soft_wrap=True)
    if script:
        for driver, found in zip(drivers, states, strict=True):
            for text in make(driver, options).scripts(found):
                click.echo(f"\n{text}", nl=False)


def tell_plan(
    drivers: Sequence[Driver], runs: Path, as_json: bool, nodes: Nodes = ONE_NODE, gpus: Offers | None = None
) -> tuple[list[list[RunState]], str]:
    """Look at some grids, say on standard error what could not be seen, and count what is to be done.

    Args:
        runs: the folder of runs, whose finished ones say what work costs.
        as_json: print the counts as one JSON object, and nothing else on standard output.
        nodes: how many a search and a retraining hold, where the runs are to go.
        gpus: what the runs get there, to say what each kind of run takes of a GPU; None says nothing.

    Returns:
        The states of each grid's runs, and the counts as a sentence.
    """
    observers = [Observer(driver) for driver in drivers]
    states = [observer.states() for observer in observers]
    whole, past = plan(list(zip(drivers, states, strict=True))), measured(runs)
    for line in (*absent_data(drivers), *dict.fromkeys(one.caveat for one in observers if one.caveat)):
        click.echo(line, err=True)
    if as_json:
        forecast = {} if gpus is None else {"gpu": _forecast_values(whole, past, gpus)}
        click.echo(json.dumps(whole.values(past, nodes) | forecast, indent=1))
        return states, ""
    told = [f"{whole.sentence()}; {sentence(whole.expected(past, nodes))}{_shared(nodes)}"]
    return states, "\n".join(told if gpus is None else [*told, *_forecast_lines(whole, past, gpus)])


def _shared(nodes: Nodes) -> str:
    """How runs and nodes go together, where it is not one to one."""
    told = [
        f"{1 / held:.0f} {name} on a node at once" if held < 1 else f"{held:.0f} nodes for each of the {name}"
        for name, held in zip(("searches", "retrainings"), nodes, strict=True)
        if held != 1
    ]
    return f" ({', '.join(told)})" if told else ""


def forecasting(asked: bool | None, gpus: Offers) -> Offers | None:
    """The GPUs to tell forecasts for: as asked, and where nothing is asked, where the runs get any."""
    wanted = any(gpus.values()) if asked is None else asked
    return gpus if wanted else None


def _kinds(whole: Plan, past: Measured, gpus: Offers) -> list[Kind]:
    left = whole.left()
    if any(left):
        click.echo("counting what each kind of run asks of a GPU: a second or two each", err=True)
    return kinds(*left, past, gpus)


def _forecast_values(whole: Plan, past: Measured, gpus: Offers) -> dict[str, Any]:
    found = _kinds(whole, past, gpus)
    return {"kinds": [kind.values() for kind in found], "gpu_hours": total_hours(found)}


def _forecast_lines(whole: Plan, past: Measured, gpus: Offers) -> list[str]:
    found = _kinds(whole, past, gpus)
    if not found:
        return []
    hours = ", ".join(f"{name} {spent:,.1f}" for name, spent in total_hours(found).items())
    counted = "" if all(kind.hours for kind in found) else ", what is not known left out"
    basis = "as finished ones took" if all(kind.measured for kind in found) else "an estimate, see docs/gpu.md"
    return [
        "what a GPU gives to each kind of run:",
        *(f"  {kind.sentence()}" for kind in found),
        f"GPU-hours together: {hours} ({basis}{counted})",
    ]
