"""The way to the harness: `ablations`, `benchmarks`, `reports` and `slurm`.

In the repository they lie at its root. Installed they lie in this folder, so that the distribution puts no name but
`cscdarts` among those of others, whose `slurm` or `reports` it would hide, or be hidden by. They keep their names:
our own processes, and no others, look into this folder first.
"""

import sys
from pathlib import Path


def folder() -> Path:
    """The folder that holds the harness: this one, or the root of the repository."""
    here = Path(__file__).resolve().parent
    return here if (here / "ablations").is_dir() else here.parents[1]


def open_harness() -> None:
    """Let this process import the harness, whatever else has the names of its packages."""
    place = str(folder())
    if sys.path[:1] != [place]:
        sys.path.insert(0, place)
