"""What `ablate plan` and `reproduce --plan` tell of some grids together."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from ablations.drive.backend import Observer
from ablations.drive.driver import Driver
from ablations.drive.plan import absent_data, plan
from ablations.grid.estimate import ONE_NODE, Nodes, measured, sentence
from ablations.run.state import RunState


def tell_plan(
    drivers: Sequence[Driver], runs: Path, as_json: bool, nodes: Nodes = ONE_NODE
) -> tuple[list[list[RunState]], str]:
    """Look at some grids, say on standard error what could not be seen, and count what is to be done.

    Args:
        runs: the folder of runs, whose finished ones say what work costs.
        as_json: print the counts as one JSON object, and nothing else on standard output.
        nodes: how many a search and a retraining hold, where the runs are to go.

    Returns:
        The states of each grid's runs, and the counts as a sentence.
    """
    observers = [Observer(driver) for driver in drivers]
    states = [observer.states() for observer in observers]
    whole, past = plan(list(zip(drivers, states, strict=True))), measured(runs)
    for line in (*absent_data(drivers), *dict.fromkeys(one.caveat for one in observers if one.caveat)):
        click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(whole.values(past, nodes), indent=1))
    return states, f"{whole.sentence()}; {sentence(whole.expected(past, nodes))}{_shared(nodes)}"


def _shared(nodes: Nodes) -> str:
    """How runs and nodes go together, where it is not one to one."""
    told = [
        f"{1 / held:.0f} {name} on a node at once" if held < 1 else f"{held:.0f} nodes for each of the {name}"
        for name, held in zip(("searches", "retrainings"), nodes, strict=True)
        if held != 1
    ]
    return f" ({', '.join(told)})" if told else ""
