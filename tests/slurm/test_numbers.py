"""What must hold on a real SLURM with the real engine: the cluster finds what this machine finds, to the bit."""

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import Driver, counts
from ablations.grid.load import load_grid
from cscdarts.records.run_folder import RunFolder, read_json, read_lines
from cscdarts.settings.metrics import METRICS
from tests.support.harness.grids import write_grid
from tests.support.harness.slurm_site import BESIDE, Site, beside, has_come, held, job_of, states_of, until

# One group: some tests stop daemons that others need.
pytestmark = [
    pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("slurm"), pytest.mark.xdist_group("slurm")
]  # fmt: skip

#: Metrics that another machine, or the same one at another hour, measures otherwise.
MEASURED = {name for name, metric in METRICS.items() if metric.unit in ("s", "MiB", "MB")}


SOME = '''"""Of the quickstart the first seed, second order and the baselines."""
from ablations.grids.quickstart import grid as whole


def grid(scale):
    for config in whole(scale):
        if config.seed == 0 and (config.search.order == 2 or config.labels.method != "csc"):
            yield config
'''


def _numbers(folder: Path) -> dict[str, Any]:
    """Everything a run found that is not a time or a measure of memory."""
    run = RunFolder(folder)
    result = read_json(run.file("result.json"))
    assert result is not None
    return {
        "values": {k: v for k, v in result["values"].items() if k not in MEASURED},
        "genotype": result["genotype"],
        "curves": [
            (line["stage"], line["epoch"], {k: v for k, v in line["values"].items() if k not in MEASURED})
            for line in run.curves()
        ],
        "alphas": [{k: v for k, v in line.items() if k != "time"} for line in run.alphas()],
        "check": read_json(folder / "check.json"),
    }


@beside
def test_the_cluster_finds_what_this_machine_finds(site: Site) -> None:
    """Same hashes, same numbers, same report, byte for byte in the CSV tables but for times and memory."""
    import csv

    node = ("--slurm", "extra.nodelist=n4")
    places = {"local": ("--parallel", "2"), "slurm": ("--on", "slurm:single-node", "--allow-dirty", *node)}
    drivers = []
    for name, options in places.items():
        (site.path / name).mkdir()
        (site.path / name / "quickstart.py").write_text(SOME)
        words = ("--scale", "smoke", *options)
        drivers.append(site.start("ablate", "run", "quickstart.py", *words, engine="real", folder=site.path / name))
    for driver in drivers:
        said, _ = driver.communicate(timeout=1200)
        assert driver.returncode == 0, said
    for name in places:
        Site(site.path / name).call("report", "quickstart", "--out", "report", "--formats", "csv", engine="real")
    local, slurm = (site.path / name for name in places)
    runs = {p.parent.name: _numbers(p.parent) for p in (local / "runs/quickstart").glob("*/config.json")}
    assert len(runs) >= 8
    assert runs == {p.parent.name: _numbers(p.parent) for p in (slurm / "runs/quickstart").glob("*/config.json")}

    def table(path: Path) -> list[list[str]]:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        # The store's own ids differ by nature.
        kept = [i for i, head in enumerate(rows[0]) if not re.search(r"mlflow_run|time|memory|_s\b|MiB|MB|\bs\b", head)]
        return [[row[i] for i in kept if i < len(row)] for row in rows]

    tables = sorted(path.relative_to(local) for path in (local / "report").rglob("*.csv"))
    assert tables
    for path in tables:
        assert table(local / path) == table(slurm / path), path


@beside
def test_a_search_preempted_three_times_is_bit_equal_to_one_undisturbed(site: Site) -> None:
    """By signal, by requeue and by time limit, with the real engine."""
    source = write_grid(site.path / "long.py", [""], search__epochs=60, search__alpha_warmup=0)
    driver = Driver(load_grid(source, "smoke"), site.path / "runs")
    (point,) = driver.grid.points
    quiet = site.start("ablate", "run", source, "--scale", "smoke", "--runs", "quiet", engine="real")
    limit = ("--slurm", "time_min=2", "--slurm", "signal_s=70")
    site.call("ablate", "run", source, *BESIDE, "--no-wait", *limit, engine="real")
    folder = driver.path(point)

    def lines() -> int:
        metrics = RunFolder(folder).metrics("search")
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def starts() -> int:
        environment = read_json(folder / "environment.json") or {}
        return len(environment.get("starts", []))

    job = until(lambda: lines() >= 2 and job_of(driver, 0, "search"), what="epochs")
    with held(folder):
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
    until(lambda: starts() == 2, what="second life")
    before = lines()
    until(lambda: lines() > before, what="second life's epochs")
    with held(folder):
        subprocess.run(["scontrol", "requeue", job], check=True)
    until(lambda: starts() >= 3, what="third life")
    then = lines()
    until(lambda: lines() > then, what="third life's epochs")
    # The limit's signal comes after 20 to 50 s.
    with held(folder) as pid:
        until(lambda: has_come(pid, signal.SIGUSR2), what="the signal before the time limit")
    until(lambda: counts(states_of(driver)) == {"done": 1}, what="done")
    said, _ = quiet.communicate(timeout=540)
    assert quiet.returncode == 0, said
    assert starts() >= 5, "a signal, a requeue, a time limit, and the retraining's start"
    assert _numbers(folder) == _numbers(site.path / "quiet" / driver.grid.name / point.hash)


def test_two_nodes_work_on_one_run(site: Site) -> None:
    """The `multi-node-ddp` profile without GPUs: two processes on two nodes search and retrain one run together."""
    source = write_grid(site.path / "both.py", [""], search__epochs=3)
    driver = Driver(load_grid(source, "smoke"), site.path / "runs")
    sizes = [f"groups.search.{key}" for key in ("gpus_per_node=0", "nodes=2", "mem_gb=3", "cpus_per_task=1")]
    sizes += ["gpus_per_node=0", "nodes=2", "tasks_per_node=1", "mem_gb=3", "cpus_per_task=1", "time_min=30"]
    words = [word for size in sizes for word in ("--slurm", size)]
    site.call(
        "ablate", "run", "both.py", "--scale", "smoke", "--on", "slurm:multi-node-ddp", "--allow-dirty", *words,
        "--set", "runtime.device=cpu", engine="real",
    )  # fmt: skip
    (point,) = driver.grid.points
    assert counts(states_of(driver)) == {"done": 1}
    lines = [line for path in RunFolder(driver.path(point)).metrics_files().values() for line in read_lines(path)]
    # One writer: every epoch of both stages once.
    assert [line["epoch"] for line in lines if line["stage"] == "search"] == [0, 1, 2]
    assert [line["epoch"] for line in lines if line["stage"] == "retrain"] == [0]
    environment = read_json(driver.path(point) / "environment.json")
    assert environment is not None
    assert len(environment["starts"]) == 2
