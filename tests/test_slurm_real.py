"""What must hold on a real SLURM (make slurm-up): the tiny engine where behaviour is at stake, the real one where numbers are.

Time-outs are generous: four nodes of four claimed CPUs share whatever this machine has.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness_grids import write_grid

from ablations.cluster import best_states
from ablations.driver import Driver, Functions, counts
from ablations.grid import load_grid
from ablations.state import RunState
from cscdarts.metrics import METRICS
from cscdarts.runfolder import RunFolder, read_json

# One group: some tests stop daemons that others need.
pytestmark = [
    pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("slurm"), pytest.mark.xdist_group("slurm")
]  # fmt: skip

TESTS = Path(__file__).parent
DEV_CLUSTER = TESTS.parent / "slurm" / "dev-cluster"
#: Metrics that another machine, or the same one at another hour, measures otherwise.
MEASURED = {name for name, metric in METRICS.items() if metric.unit in ("s", "MiB", "MB")}


def _until(condition: Callable[[], Any], seconds: float = 240, what: str = "") -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            queue = subprocess.run(["squeue", "-r"], capture_output=True, text=True, check=False).stdout
            pytest.fail(f"it did not come to pass within {seconds:.0f} s: {what}\n{queue}")
        time.sleep(0.3)
    return value


class Site:
    """A folder to run drivers in, with everything cleaned from the queue at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *words: str, engine: str = "tiny") -> "subprocess.Popen[str]":
        """Start `cscdarts WORDS`, with the tiny engine or the real one."""
        script = [str(TESTS / "harness_drive.py")] if engine == "tiny" else ["-m", "ablations.cli"]
        env = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
        env.pop("MLFLOW_TRACKING_URI", None)
        # One version for all, even if someone commits while this test runs: reports compare no runs of different code.
        env["CSCDARTS_COMMIT"] = "f" * 40
        process = subprocess.Popen(
            [sys.executable, *script, *words], cwd=self.path, env=env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def call(self, *words: str, engine: str = "tiny", code: int | None = 0, seconds: float = 540) -> str:
        """Run `cscdarts WORDS` to its end; returns what it said."""
        process = self.start(*words, engine=engine)
        out, _ = process.communicate(timeout=seconds)
        assert code is None or process.returncode == code, out
        return out

    def grid(self, notes: list[str], **values: object) -> tuple[Driver, str]:
        """A grid of the tiny engine: its driver, to look at it, and its file."""
        source = write_grid(self.path / "mine.py", notes, **values)
        driver = Driver(load_grid(source, "smoke"), self.path / "runs", Functions("harness_engine:run_task"))
        return driver, "mine.py"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for process in site.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()
    for journal in tmp_path.glob("runs/*/submissions.jsonl"):
        jobs = {job.split("_")[0] for job in re.findall(r'"(\d+(?:_\d+)?)"', journal.read_text())}
        names = set(re.findall(r'"token": "(cscdarts-[^"]+)"', journal.read_text()))
        if jobs:
            subprocess.run(["scancel", *jobs], capture_output=True, check=False)
        for name in names:
            subprocess.run(["scancel", "-n", name], capture_output=True, check=False)


ON = ("--on", "slurm:single-node", "--allow-dirty", "--scale", "smoke", "--slurm", "runs_per_job=1")


def _states(driver: Driver) -> list[RunState]:
    states, caveat = best_states(driver)
    assert caveat == ""
    return states


def _starts(driver: Driver) -> list[int]:
    return [
        len((driver.path(p) / "starts.jsonl").read_text().splitlines())
        if (driver.path(p) / "starts.jsonl").exists()
        else 0
        for p in driver.grid.points
    ]


def _job_of(driver: Driver, index: int, group: str) -> str:
    """The scheduler's id of a run's job."""
    from ablations.cluster import queue_of

    seen = queue_of(driver.folder, driver.grid.name).see({driver.grid.points[index].hash})
    return next(one.job for one in reversed(seen) if one.group == group)


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=True).stdout


def test_a_grid_end_to_end_and_again(site: Site) -> None:
    driver, source = site.grid([""] * 6)
    said = site.call("ablate", "run", source, *ON, "--parallel", "3")
    assert "6 runs submitted as 2 arrays" in said
    assert "mirror:" not in said
    assert counts(_states(driver)) == {"done": 6}
    assert _starts(driver) == [2] * 6
    again = site.call("ablate", "run", source, *ON)
    assert "nothing to submit" in again
    assert _starts(driver) == [2] * 6
    assert "6 done" in site.call("ablate", "status", source)
    assert (site.path / "mlflow.db").exists()


def test_each_failure_is_named_the_rest_finishes_and_retry_reruns_only_them(site: Site) -> None:
    driver, source = site.grid(["", "raise", "memory", "disk", "hang", "kill", ""])
    small = ("--slurm", "mem_gb=0.3", "--slurm", "stall_min=0.3", "--slurm", "parallel=7")
    said = site.call("ablate", "run", source, *ON, *small, code=1)
    states = _states(driver)
    assert [state.status for state in states] == ["done", *["failed"] * 5, "done"], said
    assert [state.kind for state in states[1:6]] == ["error", "memory", "disk", "timeout", "error"], states
    shown = site.call("ablate", "status", source)
    for words in ("the loss went astray", "out of memory", "No space left", "hung: no step", "2 done, 5 failed"):
        assert words in shown, shown
    starts = _starts(driver)
    (driver.folder / "cure").touch()
    site.call("ablate", "retry", source, *ON[:3], "--slurm", "runs_per_job=1")
    assert counts(_states(driver)) == {"done": 7}
    again = [b - a for a, b in zip(starts, _starts(driver), strict=True)]
    assert (again[0], again[6]) == (0, 0)
    assert again[1:6] == [2] * 5


def test_requeued_by_signal_by_hand_and_by_cancel(site: Site) -> None:
    driver, source = site.grid(["pace=1.5"], search__epochs=20)
    (point,) = driver.grid.points
    metrics = driver.path(point) / "metrics.jsonl"
    site.call("ablate", "run", source, *ON, "--no-wait")
    _until(lambda: metrics.exists(), what="first epoch")
    job = _job_of(driver, 0, "search")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    _until(lambda: _states(driver)[0].status == "preempted", what="requeued after the signal")
    _until(lambda: _starts(driver) == [2], what="second life")
    subprocess.run(["scontrol", "requeue", job], check=True)
    _until(lambda: _starts(driver) == [3], what="third life")
    site.call("ablate", "cancel", source)
    _until(lambda: _states(driver)[0].status == "cancelled", what="cancelled")
    assert "1 cancelled" in site.call("ablate", "status", source)
    site.call("ablate", "run", source, *ON)
    assert counts(_states(driver)) == {"done": 1}
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if line["stage"] == "search"]
    assert sorted(set(epochs)) == list(range(20))
    assert len(epochs) <= 20 + 1, "at most the epoch under way at the requeue by hand was done twice"


def test_a_signal_before_python_is_ready_kills_nothing(site: Site) -> None:
    driver, source = site.grid([""])
    site.call("ablate", "run", source, *ON, "--no-wait")
    job = _job_of(driver, 0, "search")
    for _ in range(10):
        subprocess.run(["scancel", "--signal=USR2", job], capture_output=True, check=False)
        time.sleep(0.1)
    _until(lambda: counts(_states(driver)) == {"done": 1}, what="done")


def test_a_time_limit_is_survived_as_often_as_needed(site: Site) -> None:
    driver, source = site.grid(["pace=4"], search__epochs=36)
    # The limit comes after a minute, the signal up to half a minute before the asked 20 s.
    site.call("ablate", "run", source, *ON, "--slurm", "time_min=1", "--slurm", "signal_s=20")
    (point,) = driver.grid.points
    assert counts(_states(driver)) == {"done": 1}
    environment = read_json(driver.path(point) / "environment.json")
    assert environment is not None
    assert len(environment["starts"]) >= 4, "144 s of work in lives of at most 60 s"
    epochs = [line["epoch"] for line in RunFolder(driver.path(point)).curves() if line["stage"] == "search"]
    assert epochs == list(range(36))


def test_a_preempting_partition(site: Site) -> None:
    if "urgent" not in subprocess.run(["sinfo", "-h", "-o", "%P"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("no preempting partition here; the dev-cluster has one")
    driver, source = site.grid(["pace=1.5"], search__epochs=12)
    site.call("ablate", "run", source, *ON, "--no-wait", "--slurm", "partition=main", "--slurm", "extra.nodelist=n1")
    _until(lambda: _starts(driver) == [1], what="running")
    urgent = subprocess.run(
        ["sbatch", "--parsable", "-p", "urgent", "-w", "n1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    try:
        _until(lambda: _starts(driver) == [2], what="second life after the preemption")
    finally:
        subprocess.run(["scancel", urgent], check=False)
    _until(lambda: counts(_states(driver)) == {"done": 1}, what="done")


@pytest.fixture
def dev_cluster() -> Iterator[Path]:
    """The dev-cluster script, where it is what runs here and may be handled; every daemon runs again afterwards."""
    status = subprocess.run([str(DEV_CLUSTER), "status"], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or status.returncode != 0:
        pytest.skip("this SLURM was not started by slurm/dev-cluster, or this is not root")
    yield DEV_CLUSTER
    subprocess.run([str(DEV_CLUSTER), "start"], check=True, capture_output=True, timeout=300)


def _pid(daemon: str) -> int:
    return int(Path(f"/run/slurm-dev-cluster/{daemon}.pid").read_text())


def test_a_node_daemon_killed_and_restarted_under_a_job(site: Site, dev_cluster: Path) -> None:
    driver, source = site.grid(["pace=1.0"], search__epochs=15)
    site.call("ablate", "run", source, *ON, "--no-wait", "--slurm", "extra.nodelist=n2")
    _until(lambda: _starts(driver) == [1], what="running")
    os.kill(_pid("slurmd-n2"), signal.SIGKILL)
    time.sleep(3)
    subprocess.run([str(dev_cluster), "start", "n2"], check=True, capture_output=True)
    _until(lambda: counts(_states(driver)) == {"done": 1}, what="done")
    assert _starts(driver)[0] <= 4


def test_a_node_and_its_job_killed_at_once(site: Site, dev_cluster: Path) -> None:
    driver, source = site.grid(["pace=1.0"], search__epochs=15)
    site.call("ablate", "run", source, *ON, "--no-wait", "--slurm", "extra.nodelist=n3")
    (point,) = driver.grid.points
    metrics = driver.path(point) / "metrics.jsonl"
    _until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 2, what="epochs")
    claim = json.loads((driver.path(point) / "claim").read_text())
    os.kill(_pid("slurmd-n3"), signal.SIGKILL)
    for victim in _family(claim["pid"]):
        os.kill(victim, signal.SIGKILL)
    # The node is given up after its time-out, about a minute; then it is brought back for the requeued job.
    _until(lambda: "down" in subprocess.run(["sinfo", "-h", "-n", "n3", "-o", "%T"], capture_output=True, text=True,
                                            check=True).stdout, what="node down")  # fmt: skip
    subprocess.run([str(dev_cluster), "start", "n3"], check=True, capture_output=True)
    _until(lambda: counts(_states(driver)) == {"done": 1}, what="done")
    epochs = [line["epoch"] for line in RunFolder(driver.path(point)).curves() if line["stage"] == "search"]
    assert epochs == list(range(15))


def _family(pid: int) -> list[int]:
    """A job's process and those that SLURM keeps around it."""
    import psutil

    process = psutil.Process(pid)
    around = [p for p in process.parents() if p.name().startswith(("slurmstepd", "srun", "slurm_script", "bash"))]
    return [pid, *(p.pid for p in around if p.pid > 1)]


def test_the_controller_restarted(site: Site, dev_cluster: Path) -> None:
    driver, source = site.grid(["pace=1.0"] * 2, search__epochs=40)
    site.call("ablate", "run", source, *ON, "--no-wait")
    _until(lambda: sum(_starts(driver)) == 2, what="running")
    os.kill(_pid("slurmctld"), signal.SIGTERM)
    _until(lambda: subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode != 0, what="down")
    away = site.call("ablate", "status", source)
    assert "the scheduler does not answer" in away
    assert "2 running" in away
    keep = {**os.environ, "DEV_CLUSTER_KEEP_JOBS": "1"}
    subprocess.run([str(dev_cluster), "start"], check=True, capture_output=True, env=keep)
    assert "2 running" in site.call("ablate", "status", source)
    said = site.call("ablate", "cancel", source)
    assert re.search(r"[24] jobs cancelled", said), said
    _until(lambda: counts(_states(driver)) == {"cancelled": 2}, what="cancelled")


def test_a_driver_killed_in_mid_submission(site: Site) -> None:
    driver, source = site.grid([""] * 9)
    journal = driver.folder / "submissions.jsonl"
    process = site.start("ablate", "run", source, *ON)
    # The first array's number is known, the second's is not: the worst moment.
    _until(lambda: journal.exists() and journal.read_text().count("submitted") >= 1, what="submission under way")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    said = site.call("ablate", "run", source, *ON)
    assert counts(_states(driver)) == {"done": 9}, said
    assert _starts(driver) == [2] * 9
    queue = subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True, check=True).stdout
    assert "cscdarts-mine" not in queue


def test_two_drivers(site: Site) -> None:
    driver, source = site.grid(["pace=1.0"] * 3)
    first = site.start("ablate", "run", source, *ON)
    _until(lambda: (driver.folder / "driver.lock").exists(), what="the first driver")
    said = site.call("ablate", "run", source, *ON, code=2)
    assert f"driver of mine {first.pid} on {os.uname().nodename}" in said
    first.communicate(timeout=540)
    assert first.returncode == 0
    assert _starts(driver) == [2] * 3


def test_the_driver_leaves_and_watch_follows(site: Site) -> None:
    driver, source = site.grid(["pace=1.0"] * 2)
    process = site.start("ablate", "run", source, *ON)
    _until(lambda: sum(_starts(driver)) >= 1, what="running")
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the jobs go on" in said
    said = site.call("ablate", "watch", source)
    assert "2 done" in said
    assert counts(_states(driver)) == {"done": 2}


def test_refused_before_anything_is_submitted(site: Site) -> None:
    driver, source = site.grid([""])
    said = site.call("ablate", "run", source, *ON, "--slurm", "partition=nowhere", code=2)
    assert "invalid partition specified: nowhere" in said
    assert len(said.strip().splitlines()) <= 2
    assert counts(_states(driver)) == {"new": 1}
    queue = subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True, check=True).stdout
    assert "cscdarts-mine" not in queue


def test_jobs_run_from_a_snapshot(site: Site) -> None:
    if shutil.which("git") is None or not (TESTS.parent / ".git").exists():
        pytest.skip("no git checkout here")
    driver, source = site.grid([""])
    site.call("ablate", "run", source, *ON, "--snapshot")
    assert counts(_states(driver)) == {"done": 1}
    (copy,) = [path for path in (driver.folder / "code").iterdir() if path.is_dir()]
    assert (copy / "slurm" / "job.py").exists()
    manifest = read_json(driver.folder / "grid.json")
    assert manifest is not None
    assert copy.name.startswith(manifest["commit"][:12])


def test_several_processes_know_their_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm.job import Job, Task
    from slurm.profile import Profile
    from slurm.queue import Queue, Work
    from slurm.scheduler import SlurmScheduler
    from slurm.submit import SubmititSubmitter

    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")
    queue = Queue(site.path / "runs" / "g", "cscdarts-g", SlurmScheduler(), SubmititSubmitter(site.path / "jobs"))
    task = Task("a", str(site.path / "a"), "harness_tasks:ranks", "harness_tasks:hung")
    queue.submit(
        [Work("a", {"all": task})], Profile(nodes=2, tasks_per_node=2, time_min=10), "ddp", ("all",), None, 0.0
    )
    found = _until(lambda: len(list((site.path / "a").glob("rank*.json"))) == 4, what="four ranks")
    assert found
    ranks = [json.loads(path.read_text()) for path in sorted((site.path / "a").glob("rank*.json"))]
    assert [rank["RANK"] for rank in ranks] == ["0", "1", "2", "3"]
    assert {rank["WORLD_SIZE"] for rank in ranks} == {"4"}
    assert sorted(rank["LOCAL_RANK"] for rank in ranks) == ["0", "0", "1", "1"]
    assert {(rank["MASTER_ADDR"], rank["MASTER_PORT"]) for rank in ranks} == {
        (ranks[0]["MASTER_ADDR"], ranks[0]["MASTER_PORT"])
    }
    assert isinstance(Job((task,)), Job)


SEED_0 = '''"""The quickstart, first seed."""
from ablations.grids.quickstart import grid as whole


def grid(scale):
    yield from (config for config in whole(scale) if config.seed == 0)
'''


def _numbers(folder: Path) -> dict[str, Any]:
    """Everything a run found that is not a time or a measure of memory."""
    result = read_json(folder / "result.json")
    assert result is not None
    run = RunFolder(folder)
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


def test_the_cluster_finds_what_this_machine_finds(site: Site) -> None:
    """Same hashes, same numbers, same report, byte for byte in the CSV tables but for times and memory."""
    import csv

    places = {"local": ("--parallel", "2"), "slurm": ("--on", "slurm:single-node", "--allow-dirty")}
    for name, options in places.items():
        (site.path / name).mkdir()
        (site.path / name / "quickstart.py").write_text(SEED_0)
        place = Site(site.path / name)
        place.call("ablate", "run", "quickstart.py", "--scale", "smoke", *options, engine="real", seconds=1200)
        place.call("report", "quickstart", "--out", "report", "--formats", "csv", engine="real")
    local, slurm = (site.path / name for name in places)
    runs = {p.parent.name: _numbers(p.parent) for p in (local / "runs/quickstart").glob("*/result.json")}
    assert len(runs) >= 14
    assert runs == {p.parent.name: _numbers(p.parent) for p in (slurm / "runs/quickstart").glob("*/result.json")}

    def table(path: Path) -> list[list[str]]:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        # The store's own ids differ by nature.
        kept = [i for i, head in enumerate(rows[0]) if not re.search(r"mlflow_run|time|memory|_s\b|MiB|MB|\bs\b", head)]
        return [[row[i] for i in kept if i < len(row)] for row in rows]

    tables = sorted(path.relative_to(local) for path in (local / "report").rglob("*.csv"))
    assert tables
    for path in tables:
        assert table(local / path) == table(slurm / path), path


def test_a_search_preempted_three_times_is_bit_equal_to_one_undisturbed(site: Site) -> None:
    """By signal, by requeue and by time limit, with the real engine."""

    def grid(epochs: int) -> tuple[Driver, str]:
        source = write_grid(site.path / f"long{epochs}.py", [""], search__epochs=epochs, search__alpha_warmup=0)
        return Driver(load_grid(source, "smoke"), site.path / "runs"), f"long{epochs}.py"

    # How fast is this machine now? The disturbed search must outlast the signal, which comes after 50 s at most.
    probe, source = grid(8)
    site.call("ablate", "run", source, "--scale", "smoke", engine="real")
    result = read_json(probe.path(probe.grid.points[0]) / "result.json")
    assert result is not None
    pace = result["values"]["search_time_s"] / 8
    driver, source = grid(min(1500, max(24, round(70 / pace))))
    (point,) = driver.grid.points
    site.call("ablate", "run", source, "--scale", "smoke", "--runs", "quiet", engine="real", seconds=1500)
    site.call(
        "ablate", "run", source, *ON, "--no-wait", "--slurm", "time_min=2", "--slurm", "signal_s=70", engine="real"
    )
    folder = driver.path(point)
    metrics = folder / "metrics.jsonl"

    def lines() -> int:
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def starts() -> int:
        environment = read_json(folder / "environment.json") or {}
        return len(environment.get("starts", []))

    job = _until(lambda: lines() >= 2 and _job_of(driver, 0, "search"), what="epochs")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    _until(lambda: starts() == 2, what="second life")
    before = lines()
    _until(lambda: lines() > before, what="second life's epochs")
    subprocess.run(["scontrol", "requeue", job], check=True)
    _until(lambda: starts() >= 3, what="third life")
    _until(lambda: counts(_states(driver)) == {"done": 1}, seconds=1500, what="done")
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
    assert counts(_states(driver)) == {"done": 1}
    lines = [json.loads(line) for line in (driver.path(point) / "metrics.jsonl").read_text().splitlines()]
    # One writer: every epoch of both stages once.
    assert [line["epoch"] for line in lines if line["stage"] == "search"] == [0, 1, 2]
    assert [line["epoch"] for line in lines if line["stage"] == "retrain"] == [0]
    environment = read_json(driver.path(point) / "environment.json")
    assert environment is not None
    assert len(environment["starts"]) == 2
