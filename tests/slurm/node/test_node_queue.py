"""Whole nodes on a fake cluster: what status and cancel say of single runs, and what a plan counts."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.plan import plan
from ablations.grid.estimate import Measured
from slurm.backends.slurm.fake import FakeCluster
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.scheduler import JobState
from slurm.job import CLAIM, task_output
from slurm.lock import Lock
from slurm.node import NodeJob
from tests.support.harness.fake_slurm import Grid, fake_grid, starts_on, submit, submits


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Builds the backend of a grid on a given fake cluster."""
    return partial(fake_grid, tmp_path)


def test_runs_of_whole_nodes_are_told_and_cancelled_one_by_one(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 6, profile=Profile(gpus_per_node=2, runs_per_node=2, runs_per_job=4, graph="single"))
    keys = submit(cluster)
    assert [call.split()[2] for call in submits(fake)] == ["x2"]
    job = fake.jobs["1_0"]
    assert isinstance(job, NodeJob)
    assert (job.workers, job.per_gpu, len(job.tasks), job.requeues) == (2, 1, 4, True)
    # A job is at work; its runs are where their claims are, the others wait for their turn in it.
    fake.states_by_id["1_0"] = JobState("RUNNING", "", True)
    folder = cluster.driver.path(cluster.driver.grid.points[0])
    folder.mkdir(parents=True)
    claim = Lock(folder / CLAIM)
    assert claim.acquire("run", "1_0", 0)
    states = cluster.states()
    assert [state.status for state in states] == ["running", *["pending"] * 5]
    assert [state.jobs for state in states] == [("1_0",)] * 4 + [("1_1",)] * 2
    assert states[1].detail == "search: waits for its turn in job 1_0"
    # Two runs are cancelled: their job goes on with the two others.
    assert cluster.cancel({keys[1], keys[2]}) == 1
    assert fake.states_by_id["1_0"].live
    states = cluster.states()
    assert [state.status for state in states] == ["running", "cancelled", "cancelled", *["pending"] * 3]
    # With the last two of it the job itself goes.
    claim.release()
    assert cluster.cancel({keys[0], keys[3]}) == 1
    assert fake.states_by_id["1_0"].state == "CANCELLED"
    assert [state.status for state in cluster.states()] == ["cancelled"] * 4 + ["pending"] * 2
    # What each said is shown from its own file, where it has one.
    own = task_output(cluster.queue.folder, "1_0", keys[0])[1]
    own.write_text("boo")
    assert [job.stderr == own for job in cluster.jobs({keys[0], keys[1]})] == [True, False]
    # They are submitted again, and the marks of the old job say nothing against the new one.
    assert submit(cluster) == keys[:4]
    assert [state.status for state in cluster.states()] == ["pending"] * 6


def test_runs_of_several_processes_are_cancelled_with_their_job(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, ["", ""], profile=Profile(nodes=2, runs_per_job=2, graph="single"))
    keys = submit(cluster)
    assert cluster.cancel({keys[0]}) == 1
    assert [state.status for state in cluster.states()] == ["cancelled"] * 2


def test_submissions_are_in_order_whatever_the_clocks_say(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login node whose clock is an hour behind submits after one that is right."""
    fake = FakeCluster()
    cluster = grid(fake, ["raise", ""])
    submit(cluster)
    fake.work()
    assert cluster.states()[0].status == "failed"
    monkeypatch.setattr("slurm.backends.slurm.queue.file_time", lambda folder: time.time() - 3600)
    cluster.submit([cluster.driver.grid.points[0].hash])
    assert cluster.states()[0].status == "pending", "its failure is of the earlier submission"
    fake.work()
    state = cluster.states()[0]
    assert (state.status, state.kind) == ("failed", "error"), "and this one of the later"
    assert starts_on(cluster)[0] == 2, "it was tried again"


@pytest.mark.parametrize(
    ("profile", "nodes"),
    [
        ({}, (1, 1)),
        ({"gpus_per_node": 4, "runs_per_node": 4}, (0.25, 0.25)),
        ({"gpus_per_node": 4, "runs_per_node": 4, "runs_per_gpu": 2, "graph": "single"}, (0.125, 0.125)),
        ({"nodes": 2, "tasks_per_node": 8, "groups": {"search": {"nodes": 1, "tasks_per_node": 1}}}, (1, 2)),
    ],
)  # fmt: skip
def test_a_plan_counts_the_nodes_that_a_run_holds(
    grid: Grid, profile: dict[str, Any], nodes: tuple[float, float]
) -> None:
    cluster = grid(FakeCluster(), ["", ""], profile=Profile(**profile))
    assert cluster.nodes_of_run == nodes
    configs = [point.config for point in cluster.driver.grid.points]
    past = Measured(searches=[(configs[0], 3600.0)], retrainings=[(configs[0], 7200.0)])
    planned = plan([(cluster.driver, cluster.driver.states())]).expected(past, cluster.nodes_of_run)
    assert planned.hours == pytest.approx(2 * nodes[0] + 4 * nodes[1])
