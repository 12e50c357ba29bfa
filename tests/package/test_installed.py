"""The installed package in the folder of a stranger, whose own files have names of ours."""

import json
from pathlib import Path

import pytest

from tests.package.conftest import Built, Installed
from tests.support.harness.slurm_site import cluster

pytestmark = [pytest.mark.xdist_group("package"), pytest.mark.slow]

OURS = ("ablations", "benchmarks", "reports", "slurm")
GRID = """
import benchmarks, reports, slurm
from cscdarts import apply_preset, protocol, with_values

def grid(scale):
    base = apply_preset(protocol("quickstart", scale), "random")
    for seed in reports.SEEDS:
        yield with_values(base, {"seed": seed})
"""


@pytest.fixture(scope="module")
def place(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An otherwise empty folder with a grid and the user's own modules."""
    folder = tmp_path_factory.mktemp("stranger")
    for name in ("slurm", "benchmarks"):
        (folder / f"{name}.py").write_text("SAID = 'mine'\n")
    (folder / "reports.py").write_text("SEEDS = (0, 1)\n")
    (folder / "mine.py").write_text(GRID)
    return Installed(whole, folder)


@pytest.fixture(scope="module")
def ran(place: Installed) -> Installed:
    """The same once the grid has run here, its own folder first where python looks."""
    said = place("ablate", "run", "mine.py", "--scale", "smoke", PYTHONPATH=".")
    assert "2 runs: 2 done" in said
    return place


def test_a_grid_runs_and_its_runs_name_the_commit_of_the_build(ran: Installed, built: Built) -> None:
    found = [json.loads(path.read_text()) for path in (ran.folder / "runs" / "mine").glob("*/environment.json")]
    assert [(one["commit"], one["dirty"]) for one in found] == [(built.commit, False)] * 2
    assert json.loads((ran.folder / "runs" / "mine" / "grid.json").read_text())["commit"] == built.commit


def test_a_report_and_a_look_up(ran: Installed) -> None:
    said = ran("report", "mine", "--out", "page", "--formats", "csv,html,png", PYTHONPATH=".")
    assert "page/index.html" in said
    assert "<style>" in (ran.folder / "page" / "index.html").read_text()
    assert list((ran.folder / "page" / "figures").glob("*.png"))
    (run, *_) = sorted((ran.folder / "runs" / "mine").glob("*/genotype.json"))
    found = json.loads(ran("check", str(run.parent), "--benchmark", "embedded", "--json"))
    assert found


def test_files_of_the_package_are_found(place: Installed) -> None:
    assert "quickstart" in place("ablate", "list")
    assert "DARTS_V2" in place("cost", "--known")
    script = place("ablate", "plan", "mine.py", "--scale", "smoke", "--runs", "new", "--on", "slurm:gpu")
    assert "-u -m cscdarts._harness -u -m submitit.core._submit" in script


def test_the_command_is_a_module_too_and_other_programs_see_no_module_of_ours(place: Installed) -> None:
    python = str(place.python)
    assert "version" in place.run([python, "-m", "cscdarts", "--version"])
    ask = "import cscdarts; from importlib.util import find_spec; print([find_spec(name) for name in {!r}])"
    assert place.run([python, "-P", "-c", ask.format(OURS)]) == "[None, None, None, None]\n"
    assert "usage" in place.run([python, "-m", "cscdarts._harness", "slurm.node"], 1)
    assert place.run([python, "-m", "cscdarts._harness", "-u", "-m", "slurm.node"], 1).count("not enough values") == 1


@pytest.mark.slurm
def test_jobs_of_a_cluster_run_the_installed_package(place: Installed, slurm: None, built: Built) -> None:
    """From a folder with a `slurm.py`, without a word of where the package lies; the fourth node is left to others."""
    with cluster(alone=False):
        said = place(
            "ablate", "run", "mine.py", "--scale", "smoke", "--runs", "far", "--on", "slurm:single-node",
            "--slurm", "extra.nodelist=n4",
        )  # fmt: skip
    assert "2 runs: 2 done" in said
    found = [json.loads(path.read_text()) for path in (place.folder / "far" / "mine").glob("*/environment.json")]
    assert [(one["commit"], one["dirty"]) for one in found] == [(built.commit, False)] * 2
