"""What must hold on a real SLURM (make slurm-up), with the tiny engine: the life of grids and jobs.

Time-outs are generous: four nodes of four claimed CPUs share whatever this machine has.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.drive.driver import counts
from cscdarts.records.run_folder import RunFolder, read_json, read_lines
from tests.support.harness.slurm_site import (
    BESIDE,
    ON,
    Site,
    beside,
    job_of,
    queued_names,
    scontrol,
    starts_of,
    states_of,
    until,
)
from tests.support.records import epoch_lines

# One group: some tests stop daemons that others need.
pytestmark = [
    pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("slurm"), pytest.mark.xdist_group("slurm")
]  # fmt: skip

ROOT = Path(__file__).parents[2]
DEV_CLUSTER = ROOT / "slurm" / "dev-cluster"


def test_a_grid_end_to_end_and_again(site: Site) -> None:
    driver, source = site.grid([""] * 6)
    (site.path / "mlflow.db").unlink()  # its making is part of this
    said = site.call("ablate", "run", source, *ON, "--parallel", "3")
    assert "6 runs submitted as 2 arrays" in said
    assert "mirror:" not in said
    assert counts(states_of(driver)) == {"done": 6}
    assert starts_of(driver) == [2] * 6
    again = site.call("ablate", "run", source, *ON)
    assert "nothing to submit" in again
    assert starts_of(driver) == [2] * 6
    assert "6 done" in site.call("ablate", "status", source)
    assert (site.path / "mlflow.db").exists()


@beside
def test_each_failure_is_named_the_rest_finishes_and_retry_reruns_only_them(site: Site) -> None:
    driver, source = site.grid(["", "raise", "memory", "disk", "hang", "kill", ""])
    small = ("--slurm", "mem_gb=0.3", "--slurm", "stall_min=0.3", "--slurm", "parallel=7")
    said = site.call("ablate", "run", source, *BESIDE, *small, code=1)
    states = states_of(driver)
    assert [state.status for state in states] == ["done", *["failed"] * 5, "done"], said
    assert [state.kind for state in states[1:6]] == ["error", "memory", "disk", "timeout", "error"], states
    shown = site.call("ablate", "status", source)
    for words in ("the loss went astray", "out of memory", "No space left", "hung: no step", "2 done, 5 failed"):
        assert words in shown, shown
    starts = starts_of(driver)
    (driver.folder / "cure").touch()
    site.call("ablate", "retry", source, *ON[:3], "--slurm", "runs_per_job=1")
    assert counts(states_of(driver)) == {"done": 7}
    again = [b - a for a, b in zip(starts, starts_of(driver), strict=True)]
    assert (again[0], again[6]) == (0, 0)
    assert again[1:6] == [2] * 5


def test_requeued_by_signal_by_hand_and_by_cancel(site: Site) -> None:
    driver, source = site.grid(["pace=1.5"], search__epochs=20)
    (point,) = driver.grid.points
    site.call("ablate", "run", source, *ON, "--no-wait")
    until(lambda: epoch_lines(driver.path(point)) >= 1, what="first epoch")
    job = job_of(driver, 0, "search")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    until(lambda: states_of(driver)[0].status == "preempted", what="requeued after the signal")
    until(lambda: starts_of(driver) == [2], what="second life")
    subprocess.run(["scontrol", "requeue", job], check=True)
    until(lambda: starts_of(driver) == [3], what="third life")
    site.call("ablate", "cancel", source)
    until(lambda: states_of(driver)[0].status == "cancelled", what="cancelled")
    assert "1 cancelled" in site.call("ablate", "status", source)
    site.call("ablate", "run", source, *ON)
    assert counts(states_of(driver)) == {"done": 1}
    epochs = [line["epoch"] for line in read_lines(RunFolder(driver.path(point)).metrics("search"))]
    assert sorted(set(epochs)) == list(range(20))
    assert len(epochs) <= 20 + 1, "at most the epoch under way at the requeue by hand was done twice"


def test_a_signal_before_python_is_ready_kills_nothing(site: Site) -> None:
    driver, source = site.grid([""])
    site.call("ablate", "run", source, *ON, "--no-wait")
    job = job_of(driver, 0, "search")
    for _ in range(10):
        subprocess.run(["scancel", "--signal=USR2", job], capture_output=True, check=False)
        time.sleep(0.1)
    until(lambda: counts(states_of(driver)) == {"done": 1}, what="done")


@beside
def test_a_time_limit_is_survived_as_often_as_needed(site: Site) -> None:
    driver, source = site.grid(["pace=4"], search__epochs=24)
    # The limit comes after a minute, the signal up to half a minute before the asked 20 s.
    site.call("ablate", "run", source, *BESIDE, "--slurm", "time_min=1", "--slurm", "signal_s=20")
    (point,) = driver.grid.points
    assert counts(states_of(driver)) == {"done": 1}
    environment = read_json(driver.path(point) / "environment.json")
    assert environment is not None
    assert len(environment["starts"]) >= 4, "96 s of work in lives of at most 40 s"
    epochs = [line["epoch"] for line in RunFolder(driver.path(point)).curves() if line["stage"] == "search"]
    assert epochs == list(range(24))


def test_a_preempting_partition(site: Site) -> None:
    if "urgent" not in subprocess.run(["sinfo", "-h", "-o", "%P"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("no preempting partition here; the dev-cluster has one")
    driver, source = site.grid(["pace=1.5"], search__epochs=12)
    site.call("ablate", "run", source, *ON, "--no-wait", "--slurm", "partition=main", "--slurm", "extra.nodelist=n1")
    until(lambda: starts_of(driver) == [1], what="running")
    urgent = subprocess.run(
        ["sbatch", "--parsable", "-p", "urgent", "-w", "n1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    try:
        until(lambda: starts_of(driver) == [2], what="second life after the preemption")
    finally:
        subprocess.run(["scancel", urgent], check=False)
    until(lambda: counts(states_of(driver)) == {"done": 1}, what="done")


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
    until(lambda: starts_of(driver) == [1], what="running")
    os.kill(_pid("slurmd-n2"), signal.SIGKILL)
    time.sleep(3)
    subprocess.run([str(dev_cluster), "start", "n2"], check=True, capture_output=True)
    until(lambda: counts(states_of(driver)) == {"done": 1}, what="done")
    assert starts_of(driver)[0] <= 4


def test_a_node_and_its_job_killed_at_once(site: Site, dev_cluster: Path) -> None:
    driver, source = site.grid(["pace=1.0"], search__epochs=15)
    site.call("ablate", "run", source, *ON, "--no-wait", "--slurm", "extra.nodelist=n3")
    (point,) = driver.grid.points
    until(lambda: epoch_lines(driver.path(point)) >= 2, what="epochs")
    claim = json.loads((driver.path(point) / "claim").read_text())
    os.kill(_pid("slurmd-n3"), signal.SIGKILL)
    for victim in _family(claim["pid"]):
        os.kill(victim, signal.SIGKILL)
    # The node is given up after its time-out, about a minute; then it is brought back for the requeued job.
    until(lambda: "down" in subprocess.run(["sinfo", "-h", "-n", "n3", "-o", "%T"], capture_output=True, text=True,
                                            check=True).stdout, what="node down")  # fmt: skip
    subprocess.run([str(dev_cluster), "start", "n3"], check=True, capture_output=True)
    until(lambda: counts(states_of(driver)) == {"done": 1}, what="done")
    epochs = [line["epoch"] for line in RunFolder(driver.path(point)).curves() if line["stage"] == "search"]
    assert epochs == list(range(15))


def _family(pid: int) -> list[int]:
    """A job's process and those that SLURM keeps around it."""
    import psutil

    process = psutil.Process(pid)
    around = [p for p in process.parents() if p.name().startswith(("slurmstepd", "srun", "slurm_script", "bash"))]
    return [pid, *(p.pid for p in around if p.pid > 1)]


@pytest.mark.usefixtures("no_other_on_the_cluster")
def test_the_controller_restarted(site: Site, dev_cluster: Path) -> None:
    driver, source = site.grid(["pace=1.0"] * 2, search__epochs=40)
    site.call("ablate", "run", source, *ON, "--no-wait")
    until(lambda: sum(starts_of(driver)) == 2, what="running")
    os.kill(_pid("slurmctld"), signal.SIGTERM)
    until(lambda: subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode != 0, what="down")
    away = site.call("ablate", "status", source)
    assert "the scheduler does not answer" in away
    assert "2 running" in away
    keep = {**os.environ, "DEV_CLUSTER_KEEP_JOBS": "1"}
    subprocess.run([str(dev_cluster), "start"], check=True, capture_output=True, env=keep)
    assert "2 running" in site.call("ablate", "status", source)
    said = site.call("ablate", "cancel", source)
    assert re.search(r"[24] jobs cancelled", said), said
    until(lambda: counts(states_of(driver)) == {"cancelled": 2}, what="cancelled")


def test_a_driver_killed_in_mid_submission(site: Site) -> None:
    driver, source = site.grid([""] * 9)
    journal = driver.folder / "submissions.jsonl"
    process = site.start("ablate", "run", source, *ON)
    # The first array's number is known, the second's is not: the worst moment.
    until(lambda: journal.exists() and journal.read_text().count("submitted") >= 1, what="submission under way")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert queued_names(site.path), "held, until their chain is released or withdrawn"
    said = site.call("ablate", "run", source, *ON)
    assert counts(states_of(driver)) == {"done": 9}, said
    assert starts_of(driver) == [2] * 9
    until(lambda: not queued_names(site.path), what="no job of the grid in the queue")


@beside
def test_two_drivers(site: Site) -> None:
    driver, source = site.grid(["pace=1.0"] * 3)
    first = site.start("ablate", "run", source, *BESIDE)
    until(lambda: (driver.folder / "driver.lock").exists(), what="the first driver")
    said = site.call("ablate", "run", source, *BESIDE, code=2)
    assert f"driver of mine {first.pid} on {os.uname().nodename}" in said
    first.communicate(timeout=540)
    assert first.returncode == 0
    assert starts_of(driver) == [2] * 3


@beside
def test_the_driver_leaves_and_watch_follows(site: Site) -> None:
    driver, source = site.grid(["pace=1.0"] * 2)
    process = site.start("ablate", "run", source, *BESIDE)
    until(lambda: sum(starts_of(driver)) >= 1, what="running")
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the jobs go on" in said
    said = site.call("ablate", "watch", source)
    assert "2 done" in said
    assert counts(states_of(driver)) == {"done": 2}


def test_refused_before_anything_is_submitted(site: Site) -> None:
    driver, source = site.grid([""])
    said = site.call("ablate", "run", source, *ON, "--slurm", "partition=nowhere", code=2)
    assert "invalid partition specified: nowhere" in said
    assert len(said.strip().splitlines()) <= 2
    assert counts(states_of(driver)) == {"new": 1}
    assert queued_names(site.path) == set()


@beside
def test_a_setup_line_that_fails_is_named_by_the_state(site: Site) -> None:
    driver, source = site.grid(["", ""])
    setup = "setup=[true, source /nowhere/bin/activate, module load python/3.99]"
    said = site.call("ablate", "run", source, *BESIDE, "--slurm", setup, code=1)
    states = states_of(driver)
    assert [state.status for state in states] == ["failed", "failed"], said
    for state in states:
        assert "setup line 2 failed with code 1: source /nowhere/bin/activate" in state.detail, state
    assert starts_of(driver) == [0, 0], "nothing ran after the line that failed"


@beside
def test_a_missing_interpreter_is_named_by_the_state(site: Site) -> None:
    driver, source = site.grid([""])
    site.call("ablate", "run", source, *BESIDE, "--slurm", "python=/nowhere/bin/python", code=1)
    (state,) = states_of(driver)
    assert "no interpreter: " in state.detail
    assert "has no /nowhere/bin/python" in state.detail


def test_values_reach_the_scheduler_as_they_were_meant(site: Site) -> None:
    driver, source = site.grid(["pace=1.0"], search__epochs=60)
    (site.path / "mine.yaml").write_text("time_min: 12:00:00\nmem_gb: 512M\nextra:\n  requeue: false\n  nice: 100\n")
    site.call("ablate", "run", source, "--scale", "smoke", "--on", "slurm:mine.yaml", "--allow-dirty", "--no-wait")
    job = job_of(driver, 0, "search")
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    for word in ("TimeLimit=12:00:00", "Requeue=0", "MinMemoryNode=512M", "Nice=100"):
        assert word in shown, shown
    site.call("ablate", "cancel", source)


@beside
def test_the_users_own_modules_and_defaults(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slurm", "ablations", "reports"):
        (site.path / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # the driver itself is started here by -m, the command is not
    monkeypatch.setenv("SBATCH_ARRAY_INX", "5-9")
    monkeypatch.setenv("SBATCH_SIGNAL", "USR1@5")
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    monkeypatch.setenv("SQUEUE_STATES", "SUSPENDED")
    monkeypatch.setenv("SQUEUE_PARTITION", "nowhere")
    driver, source = site.grid(["", ""])
    site.call("ablate", "run", source, *BESIDE)
    assert counts(states_of(driver)) == {"done": 2}
    assert starts_of(driver) == [2, 2]


def test_jobs_run_from_a_snapshot(site: Site) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout here")
    driver, source = site.grid([""])
    site.call("ablate", "run", source, *ON, "--snapshot")
    assert counts(states_of(driver)) == {"done": 1}
    (copy,) = [path for path in (driver.folder / "code").iterdir() if path.is_dir()]
    assert (copy / "slurm" / "job.py").exists()
    manifest = read_json(driver.folder / "grid.json")
    assert manifest is not None
    assert copy.name.startswith(manifest["commit"][:12])


def test_several_processes_know_their_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm.backends.slurm.profile import Profile
    from slurm.backends.slurm.queue import ChainedRun, Queue
    from slurm.backends.slurm.scheduler import SlurmScheduler
    from slurm.backends.slurm.submit import SubmititSubmitter
    from slurm.job import Job, Task

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    queue = Queue(site.path / "runs" / "g", "cscdarts-g", SlurmScheduler(), SubmititSubmitter(site.path / "jobs"))
    task = Task("a", str(site.path / "a"), "tests.support.harness.tasks:ranks", "tests.support.harness.tasks:hung")
    queue.submit(
        [ChainedRun("a", {"all": task})], Profile(nodes=2, tasks_per_node=2, time_min=10), "ddp", ("all",), None, 0.0
    )
    found = until(lambda: len(list((site.path / "a").glob("rank*.json"))) == 4, what="four ranks")
    assert found
    ranks = [json.loads(path.read_text()) for path in sorted((site.path / "a").glob("rank*.json"))]
    assert [rank["RANK"] for rank in ranks] == ["0", "1", "2", "3"]
    assert {rank["WORLD_SIZE"] for rank in ranks} == {"4"}
    assert sorted(rank["LOCAL_RANK"] for rank in ranks) == ["0", "0", "1", "1"]
    assert {(rank["MASTER_ADDR"], rank["MASTER_PORT"]) for rank in ranks} == {
        (ranks[0]["MASTER_ADDR"], ranks[0]["MASTER_PORT"])
    }
    assert isinstance(Job((task,)), Job)


NODE = """
gpus_per_node: 2
runs_per_node: 2
runs_per_job: 4
mem_gb: 4
time_min: 10
signal_s: 20
graph: single
"""


def test_a_whole_node_with_a_run_on_each_gpu(site: Site) -> None:
    """Four runs in one job on a node of two GPUs: one is killed, one is cancelled at work, both make room for the next;
    then the job gets the signal before a limit, goes back to the queue once, and ends what is unfinished."""
    if "gpu" not in subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("no GPUs here; the dev-cluster pretends to have some")
    (site.path / "node.yaml").write_text(NODE)
    driver, source = site.grid(["kill", *["pace=0.7"] * 3], search__epochs=12)
    site.call("ablate", "run", source, "--on", "slurm:node.yaml", "--allow-dirty", "--scale", "smoke", "--no-wait")
    until(lambda: starts_of(driver)[:3] == [1, 1, 1], what="the third run in the place of the first, which was killed")
    states = states_of(driver)
    assert [state.status for state in states] == ["failed", "running", "running", "pending"], states
    (job,) = {one for state in states for one in state.jobs}
    assert states[3].detail == f"search: waits for its turn in job {job}"
    assert "killed, most likely because memory ran out" in states[0].detail
    assert "OverSubscribe=NO" in scontrol("show", "job", job), "the node is the job's alone"
    assert "1 runs cancelled in 1 jobs" in site.call("ablate", "cancel", source, driver.grid.points[1].hash)
    until(lambda: starts_of(driver) == [1, 1, 1, 1], what="the fourth run in the place of the one that was cancelled")
    until(lambda: epoch_lines(driver.path(driver.grid.points[3])) >= 1, what="an epoch of it")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    until(lambda: [s.status for s in states_of(driver)] == ["failed", "cancelled", *["preempted"] * 2], what="requeued")
    until(lambda: counts(states_of(driver)) == {"failed": 1, "cancelled": 1, "done": 2}, what="the others done")
    assert starts_of(driver) == [1, 1, 2, 2]
    assert "Restarts=1" in scontrol("show", "job", job)
    begun = [read_lines(driver.path(point) / "starts.jsonl") for point in driver.grid.points]
    assert {next(lines)["gpu"] for lines in begun[:2]} == {"0", "1"}
    for point in driver.grid.points[2:]:
        epochs = [line["epoch"] for line in RunFolder(driver.path(point)).curves() if line["stage"] == "search"]
        assert epochs == list(range(12))
    assert f"{job}_{driver.grid.points[0].hash}_log.err" in site.call("ablate", "logs", source, states[0].hash)
