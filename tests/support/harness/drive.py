"""`python -m tests.support.harness.drive ablate ...`: the command line with the tiny engine, as its own process."""

import sys
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from ablations import cli
from ablations.commands import ablate as cmd_ablate
from ablations.commands import sweep as cmd_sweep
from ablations.drive.driver import Driver, TaskFunctions
from ablations.grid.load import Grid

if __name__ == "__main__":
    # The command line itself, with another engine behind it.
    def driver(grid: Grid, runs: Path) -> Driver:
        return Driver(grid, runs, TaskFunctions("tests.support.harness.engine:run_task"))

    with patch.object(cmd_ablate, "Driver", driver), patch.object(cmd_sweep, "Driver", driver):
        Console().print("driver begins")
        cli.main(sys.argv[1:])
