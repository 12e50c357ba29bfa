"""A driver process for tests: `python -m tests.support.drive ablate ...` is the command line with the tiny engine."""

import sys
from pathlib import Path

from rich.console import Console

from ablations import cli
from ablations.commands import ablate as cmd_ablate
from ablations.drive.driver import Driver, TaskFunctions

if __name__ == "__main__":
    # The command line itself, with another engine behind it.
    def driver(grid: object, runs: Path) -> Driver:
        return Driver(grid, runs, TaskFunctions("tests.support.engine:run_task"))  # type: ignore[arg-type]

    cmd_ablate.Driver = driver  # type: ignore[assignment,misc]
    Console().print("driver begins")
    cli.main(sys.argv[1:])
